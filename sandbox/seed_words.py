"""Words from which the seed makes believable companies: by language, with the country's ways of writing phones, codes and streets."""

# ruff: noqa: RUF001 - letters that look like Latin ones are what this data is for

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """How companies of a language are called and where they live; `#` in a pattern is a digit, `%s` a family or place name."""

    stems: tuple[str, ...]
    trades: tuple[str, ...]
    forms: tuple[str, ...]
    streets: tuple[str, ...]


@dataclass(frozen=True)
class Country:
    """A country's dialling code, postal code pattern, top-level domain and language."""

    dial: str
    zip: str
    domain: str
    language: str


LANGUAGES: Mapping[str, Language] = {
    "english": Language(
        ("Whitfield", "O'Brien", "Harrow & Sons", "McAllister", "Blackwood", "St. John's", "Fairbanks", "Northgate", "Pemberton", "D'Arcy"),
        ("Freight", "Tools", "Analytics", "Dental Supply", "Timber", "Food & Drink", "Lighting", "Instruments", "Print #1", "Water"),
        ("Ltd", "Inc.", "LLC", "plc", "Group", "& Co."),
        ("## High Street", "#### Main St", "## King's Road", "### Industrial Way"),
    ),
    "german": Language(
        ("Müller", "Größmann", "Weißhaupt", "Jäger & Söhne", "Schröder", "Böhm", "Kühn", "Straßer", "Hölderlin", "Zürcher"),
        (
            "Maschinenbau",
            "Präzisionsteile",
            "Logistik",
            "Gebäudetechnik",
            "Bürobedarf",
            "Möbel",
            "Kälte- und Klimatechnik",
            "Steuerberatung",
        ),
        ("GmbH", "AG", "GmbH & Co. KG", "e.K.", "OHG"),
        ("Hauptstraße ##", "Königsallee ##", "Am Güterbahnhof #", "Lindenstraße ##a"),
    ),
    "french": Language(
        ("Lefèvre", "L'Hôpital", "Château d'Eau", "Saint-Étienne", "Béranger", "Noël", "Garçon", "D'Alembert", "Crémieux", "Où Aller"),
        ("Électronique", "Boulangerie", "Assurances", "Mécanique", "Vins & Spiritueux", "Bâtiment", "Conseil", "Textiles"),
        ("SARL", "S.A.", "SAS", "& Fils", "& Cie"),
        ("## rue de l'Église", "## boulevard Haussmann", "#, place de la Comédie", "## allée des Chênes"),
    ),
    "spanish": Language(
        ("Muñoz", "Peñalver", "Castaño", "Ibáñez", "Güell", "Núñez Hermanos", "Avilés", "Larrañaga"),
        ("Cerámica", "Construcción", "Aceites", "Ingeniería", "Automoción", "Panadería", "Gestoría"),
        ("S.A.", "S.L.", "S.A. de C.V.", "e Hijos"),
        ("Calle Mayor ##", "Avenida de la Constitución ###", "Paseo de Gràcia ##"),
    ),
    "portuguese": Language(
        ("Gonçalves", "Magalhães", "São Bento", "Conceição", "Araújo", "Brandão"),
        ("Café", "Cortiça", "Engenharia", "Calçados", "Comunicação", "Açúcar"),
        ("Lda.", "S.A.", "Ltda.", "& Irmãos"),
        ("Rua da Conceição ##", "Avenida da Liberdade ###", "Praça do Comércio #"),
    ),
    "italian": Language(
        ("Bellini", "D'Annunzio", "Perché No", "Città Nuova", "Rossi & Figli", "Sant'Ambrogio"),
        ("Ceramiche", "Macchine Utensili", "Caffè", "Pelletteria", "Arredamenti", "Qualità"),
        ("S.p.A.", "S.r.l.", "S.n.c."),
        ("Via Montenapoleone ##", "Corso Buenos Aires ##", "Piazza dell'Unità #"),
    ),
    "dutch": Language(
        ("Van 't Hoff", "De Vries", "'t Hooft", "Van der Meer", "Coöperatie Noord", "IJsselstein"),
        ("Bloemen", "Scheepsbouw", "Zuivel", "Advies", "Fietsen", "Transport"),
        ("B.V.", "N.V.", "V.O.F."),
        ("Keizersgracht ###", "'s-Gravenhaagse Weg ##", "Kerkstraat ##"),
    ),
    "nordic": Language(
        ("Ångström", "Søndergård", "Bjørnson", "Åkesson", "Lønborg", "Sjöberg", "Ærø"),
        ("Møbler", "Fiskeri", "Energi", "Värme", "Båtar", "Konsult"),
        ("A/S", "AB", "AS", "ApS"),
        ("Storgatan ##", "Nørregade ##", "Karl Johans gate ##"),
    ),
    "slavic": Language(
        ("Wiśniewski", "Łukasiewicz", "Dvořák", "Żółć", "Novák a synové", "Źródło", "Šťastný"),
        ("Przetwórstwo", "Strojírna", "Sklárny", "Budownictwo", "Pivovar", "Usługi"),
        ("Sp. z o.o.", "s.r.o.", "a.s.", "S.A."),
        ("ul. Piotrkowska ##", "Náměstí Svobody #", "ul. Świętojańska ##"),
    ),
    "hungarian": Language(
        ("Szőke", "Erdős", "Kőműves", "Árvíztűrő", "Gyöngyösi"),
        ("Gépgyártó", "Bútor", "Könyvelő", "Szállítmányozó"),
        ("Kft.", "Zrt.", "Bt."),
        ("Fő utca ##", "Váci út ###"),
    ),
    "turkish": Language(
        ("Yıldız", "Güneş", "Çağlar", "İnönü", "Şahin", "Öztürk"),
        ("Tekstil", "İnşaat", "Gıda", "Lojistik", "Mobilya"),
        ("A.Ş.", "Ltd. Şti."),
        ("İstiklal Caddesi No: ##", "Bağdat Caddesi ##"),
    ),
    "greek": Language(
        ("Παπαδόπουλος", "Ελληνική", "Αιγαίο", "Ήλιος", "Μακεδονία", "Όλυμπος"),
        ("Ναυτιλιακή", "Κατασκευαστική", "Ελαιόλαδα", "Συμβουλευτική", "Τουριστική"),
        ("Α.Ε.", "Ε.Π.Ε.", "Ο.Ε."),
        ("Οδός Ερμού ##", "Λεωφόρος Συγγρού ###"),
    ),
    "ukrainian": Language(
        ("Дніпро", "Київська", "Ґудзик", "Світанок", "Їжак", "Мрія"),
        ("Логістика", "Будівельна компанія", "Зерно", "Меблі", "Приладобудування"),
        ("ТОВ", "ПАТ", "ФОП"),
        ("вул. Хрещатик, ##", "просп. Свободи, ##", "пл. Ринок, #"),
    ),
    "arabic": Language(
        ("النيل", "الأهرام", "الفجر", "دجلة", "القاهرة الجديدة"),
        ("للتجارة", "للمقاولات", "للأغذية", "للنقل", "للاستشارات"),
        ("ش.م.م", "وشركاه"),
        ("## شارع التحرير", "## شارع طلعت حرب"),
    ),
    "hebrew": Language(
        ("הגליל", "כרמל", 'אלמוג בע"מ', "שלום", "הנגב"),
        ("תעשיות", "ייעוץ", "מזון", "הובלות", "תוכנה"),
        ('בע"מ', "ובניו"),
        ("רחוב דיזנגוף ##", "שדרות רוטשילד ##"),
    ),
    "chinese": Language(
        ("华明", "东方", "长城", "龙腾", "金桥", "新世纪"),
        ("机械", "贸易", "电子科技", "纺织", "物流", "食品"),
        ("有限公司", "股份有限公司", "集团"),
        ("中山路##号", "人民大道###号", "南京西路###号"),
    ),
    "japanese": Language(
        ("山田", "富士", "髙橋", "さくら", "ミナト", "日の出"),
        ("製作所", "商事", "エレクトロニクス", "運輸", "食品", "コンサルティング"),
        ("株式会社", "合同会社", "有限会社"),
        ("中央区銀座#丁目##番", "北区梅田#-#-##"),
    ),
    "korean": Language(
        ("한빛", "서울", "동아", "새싹", "무궁화"),
        ("전자", "물산", "건설", "식품", "컨설팅"),
        ("주식회사", "(주)", "유한회사"),
        ("강남구 테헤란로 ###", "중구 을지로 ##"),
    ),
    "hindi": Language(
        ("शर्मा", "भारत", "गंगा", "लक्ष्मी", "सूर्य"),
        ("उद्योग", "वस्त्र", "परिवहन", "इंजीनियरिंग", "मसाले"),
        ("प्राइवेट लिमिटेड", "एंड सन्स"),
        ("## महात्मा गांधी मार्ग", "## मरीन ड्राइव"),
    ),
    "thai": Language(
        ("สยาม", "ช้างทอง", "แม่น้ำ", "รุ่งเรือง"),
        ("การค้า", "ก่อสร้าง", "อาหาร", "ขนส่ง"),
        ("จำกัด", "จำกัด (มหาชน)"),
        ("## ถนนสุขุมวิท", "### ถนนสีลม"),
    ),
}

COUNTRIES: Mapping[str, Country] = {
    "Argentina": Country("54", "C####ABC", "ar", "spanish"),
    "Australia": Country("61", "2###", "au", "english"),
    "Austria": Country("43", "1##0", "at", "german"),
    "Belgium": Country("32", "2###", "be", "dutch"),
    "Brazil": Country("55", "0####-###", "br", "portuguese"),
    "Canada": Country("1", "H#A #B#", "ca", "french"),
    "China": Country("86", "1#####", "cn", "chinese"),
    "Czech Republic": Country("420", "6## ##", "cz", "slavic"),
    "Denmark": Country("45", "1###", "dk", "nordic"),
    "Egypt": Country("20", "11###", "eg", "arabic"),
    "France": Country("33", "7####", "fr", "french"),
    "Germany": Country("49", "1####", "de", "german"),
    "Greece": Country("30", "1## ##", "gr", "greek"),
    "Hungary": Country("36", "1###", "hu", "hungarian"),
    "India": Country("91", "4000##", "in", "hindi"),
    "Ireland": Country("353", "D0# X###", "ie", "english"),
    "Israel": Country("972", "6######", "il", "hebrew"),
    "Italy": Country("39", "201##", "it", "italian"),
    "Japan": Country("81", "1##-####", "jp", "japanese"),
    "Kenya": Country("254", "00###", "ke", "english"),
    "Mexico": Country("52", "64###", "mx", "spanish"),
    "Netherlands": Country("31", "25## AB", "nl", "dutch"),
    "Norway": Country("47", "0###", "no", "nordic"),
    "Poland": Country("48", "9#-###", "pl", "slavic"),
    "Portugal": Country("351", "1###-###", "pt", "portuguese"),
    "South Korea": Country("82", "0####", "kr", "korean"),
    "Spain": Country("34", "080##", "es", "spanish"),
    "Sweden": Country("46", "41# ##", "se", "nordic"),
    "Switzerland": Country("41", "80##", "ch", "german"),
    "Thailand": Country("66", "10###", "th", "thai"),
    "Turkey": Country("90", "34###", "tr", "turkish"),
    "Ukraine": Country("380", "0####", "ua", "ukrainian"),
    "United Kingdom": Country("44", "EC#A #AB", "uk", "english"),
    "United States": Country("1", "0####", "com", "english"),
}

NOTES = (
    "Pays within 14 days, 2 % discount.",
    "Asked for a quote on 100 % recycled packaging <urgent>; call back after the fair.",
    'Contact says: "no e-mails, please" \N{EM DASH} phone only.',
    "Umsatzsteuer-ID geprüft.\nLieferung nur über das Tor an der Südseite.",
    "Client depuis 1998 ; réclamation réglée à l'amiable.",
    "Переговори завершено, договір підписано.",
    "支払いは月末締め翌月末払い。",
    "Great partner \N{PARTY POPPER} renewed for 3 years \N{THUMBS UP SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-4}",
    "See folder //files/contracts/2024#17 & annex A/B.",
)

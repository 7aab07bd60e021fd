// Accounts and contacts as the two systems shape them, for a server that knows neither Dataverse nor Creatio.
namespace judge;

entity Contacts {
  key contactid  : UUID;
      lastname   : String(50);
      birthdate  : Date;
      modifiedon : Timestamp @cds.on.insert: $now  @cds.on.update: $now  @odata.etag;
}

entity Accounts {
  key accountid         : UUID;
      name              : String(160);
      fax               : String(50);
      numberofemployees : Integer;
      revenue           : Decimal(19, 4);
      creditonhold      : Boolean;
      industrycode      : Integer;
      lastonholdtime    : DateTime;
      modifiedon        : Timestamp @cds.on.insert: $now  @cds.on.update: $now  @odata.etag;
      primarycontactid  : Association to Contacts;
}

// Lower-case names, lookups that are read as `_x_value` and written by `x@odata.bind`.
@path: '/api/data/v9.2'
service dataverse {
  entity accounts as select from Accounts { *, primarycontactid.contactid as _primarycontactid_value : UUID };
  entity contacts as projection on Contacts;
}

// Capital letters, lookups that are flat columns beside their navigation property.
@path: '/0/odata'
service creatio {
  aspect changed {
    CreatedOn    : Timestamp @cds.on.insert: $now;
    ModifiedOn   : Timestamp @cds.on.insert: $now  @cds.on.update: $now;
    ModifiedById : UUID;
  }

  entity AccountType : changed {
    key Id   : UUID;
        Name : String(250);
  }

  entity Contact : changed {
    key Id    : UUID;
        Name  : String(250);
        Email : String(250);
  }

  entity Account : changed {
    key Id                : UUID;
        Name              : String(250);
        Notes             : LargeString;
        Code              : String(50);
        UsrEmployees      : Integer;
        UsrAnnualRevenue  : Decimal(18, 2);
        UsrActive         : Boolean;
        UsrLastDay        : Date;
        UsrLastCampaignOn : DateTime;
        TypeId            : UUID;
        Type              : Association to AccountType on Type.Id = TypeId;
        PrimaryContactId  : UUID;
        PrimaryContact    : Association to Contact on PrimaryContact.Id = PrimaryContactId;
  }
}

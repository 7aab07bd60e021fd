// Lets Azurite find one entity of a large partition by its index: preloaded by bench.bulk_load (NODE_OPTIONS=--require=...).
//
// Azurite keeps table entities in LokiJS with an index on PartitionKey and one on RowKey, and looks one entity up by both. LokiJS uses
// the index of the first property named and compares the rest one by one, so that each look-up walks the whole partition: a load of
// 200,000 records would take days, nearly all of them in the emulator. Asking for the row first finds the same entity.
"use strict";

const { Collection } = require("lokijs");

const findOne = Collection.prototype.findOne;

Collection.prototype.findOne = function (query) {
  const names = Object.keys(query || {});
  if (names.length !== 2 || !names.includes("PartitionKey") || !names.includes("RowKey")) {
    return findOne.call(this, query);
  }
  const found = this.chain().find({ RowKey: query.RowKey }).find({ PartitionKey: query.PartitionKey }).data();
  return found.length ? found[0] : null;
};

//! How the state lies in the file.
//!
//! Table `records`: a [`Key`] as JSON → the revision that wrote the record (8 bytes, little endian) and
//! the [`Record`] as JSON. Table `meta`: `format` and `revision` → numbers. JSON, because a record grows
//! fields and an operator can read it; the state is read from the disk once per start.

use std::path::Path;

use ::redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use coracle_types::{Change, Changes, Key, Record, State};

use super::{OpenError, StartError};

/// The format this version writes, and the newest it reads.
pub(super) const FORMAT: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// One change as bytes.
#[derive(Debug)]
pub(crate) struct Write {
    key: Vec<u8>,
    /// Room for the revision, then the record; None takes the record away.
    value: Option<Vec<u8>>,
}

/// The bytes of all changes, in order.
pub(super) fn encode(changes: &Changes) -> Vec<Write> {
    changes
        .changes
        .iter()
        .map(|change| {
            let value = match change {
                Change::Put(record) => {
                    let mut value = vec![0; 8];
                    serde_json::to_writer(&mut value, record).expect("records are plain data with text keys");
                    Some(value)
                }
                Change::Delete(_) => None,
            };
            Write { key: serde_json::to_vec(&change.key()).expect("keys are plain data"), value }
        })
        .collect()
}

/// Writes one commit as of `revision` into a transaction.
pub(super) fn write(
    transaction: &WriteTransaction,
    writes: &mut [Write],
    revision: u64,
) -> Result<(), ::redb::Error> {
    let mut records = transaction.open_table(RECORDS)?;
    for write in writes {
        match &mut write.value {
            Some(value) => {
                value[..8].copy_from_slice(&revision.to_le_bytes());
                records.insert(write.key.as_slice(), value.as_slice())?;
            }
            None => {
                records.remove(write.key.as_slice())?;
            }
        }
    }
    Ok(())
}

/// Notes the last revision of a transaction.
pub(super) fn write_revision(transaction: &WriteTransaction, revision: u64) -> Result<(), ::redb::Error> {
    transaction.open_table(META)?.insert("revision", revision)?;
    Ok(())
}

/// Makes the tables of a new database, and refuses one of a newer format.
pub(super) fn ensure_tables(database: &Database, path: &Path) -> Result<(), StartError> {
    let transaction = database.begin_write()?;
    let found = transaction.open_table(META)?.get("format")?.map(|found| found.value());
    match found {
        Some(found) if found > FORMAT => {
            return Err(StartError::Open(OpenError::Version { path: path.to_owned(), found, known: FORMAT }));
        }
        Some(_) => transaction.abort()?,
        None => {
            transaction.open_table(META)?.insert("format", FORMAT)?;
            transaction.open_table(RECORDS)?;
            transaction.commit()?;
        }
    }
    Ok(())
}

/// Reads the whole state.
pub(super) fn load(database: &Database, path: &Path) -> Result<State, StartError> {
    let transaction = database.begin_read()?;
    let revision = transaction.open_table(META)?.get("revision")?.map_or(0, |found| found.value());
    let mut state = State::restored(revision);
    for entry in transaction.open_table(RECORDS)?.iter()? {
        let (key, value) = entry?;
        let (record, revision) = decode(key.value(), value.value()).map_err(|reason| {
            let key = String::from_utf8_lossy(key.value()).chars().take(300).collect();
            StartError::Open(OpenError::Corrupt { path: path.to_owned(), key, reason })
        })?;
        state.apply(&Change::Put(record), revision);
    }
    Ok(state)
}

fn decode(key: &[u8], value: &[u8]) -> Result<(Record, u64), String> {
    let (revision, record) = value.split_first_chunk::<8>().ok_or("it is cut off")?;
    let record: Record = serde_json::from_slice(record).map_err(|error| error.to_string())?;
    let key: Key = serde_json::from_slice(key).map_err(|error| error.to_string())?;
    if record.key() != key {
        return Err("it is stored under another record's key".to_owned());
    }
    Ok((record, u64::from_le_bytes(*revision)))
}

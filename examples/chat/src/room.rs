//! What has been said: the last messages, in one value of the key-value store.

use coracle_sdk::Error;
use coracle_sdk::keyvalue::Bucket;
use serde::{Deserialize, Serialize};

/// The most messages that are kept.
const KEPT: usize = 32;

/// The longest name and text, in bytes.
const LONGEST_NAME: usize = 50;
const LONGEST_TEXT: usize = 500;

const KEY: &str = "room";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    from: String,
    text: String,
}

/// Messages are numbered from 1.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Room {
    /// How many there have ever been: the number of the last one.
    posted: u64,
    /// The last ones.
    messages: Vec<Message>,
}

impl Message {
    /// Whether it is not empty and not too long.
    pub fn check(&self) -> Result<(), Error> {
        let good = |text: &str, longest| !text.trim().is_empty() && text.len() <= longest;
        if good(&self.from, LONGEST_NAME) && good(&self.text, LONGEST_TEXT) {
            return Ok(());
        }
        Err(Error::bad_request(format!(
            "from has to have 1 to {LONGEST_NAME} bytes, and text 1 to {LONGEST_TEXT}"
        )))
    }

    pub fn to_json(&self) -> Result<String, Error> {
        Ok(serde_json::to_string(self)?)
    }
}

impl Room {
    pub fn open() -> Result<Room, Error> {
        Ok(Bucket::open("default")?.get_json(KEY)?.unwrap_or_default())
    }

    /// Adds a message and answers its number. When somebody else was faster it comes after theirs.
    pub fn post(message: &Message) -> Result<u64, Error> {
        let mut number = 0;
        Bucket::open("default")?.update(KEY, |found| {
            let mut room: Room =
                found.and_then(|room| serde_json::from_slice(&room).ok()).unwrap_or_default();
            room.posted += 1;
            number = room.posted;
            room.messages.push(message.clone());
            let old = room.messages.len().saturating_sub(KEPT);
            room.messages.drain(..old);
            serde_json::to_vec(&room).expect("names and texts can be written as JSON")
        })?;
        Ok(number)
    }

    /// The messages after the one of this number, each with its own.
    pub fn after(&self, seen: u64) -> impl Iterator<Item = (u64, &Message)> {
        let first = self.posted.saturating_sub(self.messages.len() as u64) + 1;
        (first..).zip(&self.messages).filter(move |(number, _)| *number > seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_messages_are_kept_and_numbered() {
        let said: Vec<u64> = (0..40)
            .map(|number| Room::post(&Message { from: "ann".to_owned(), text: number.to_string() }).unwrap())
            .collect();
        assert_eq!(said, (1..=40).collect::<Vec<u64>>());
        let room = Room::open().unwrap();
        let numbers: Vec<u64> = room.after(0).map(|(number, _)| number).collect();
        assert_eq!(numbers, (9..=40).collect::<Vec<u64>>());
        assert_eq!(
            room.after(38).map(|(_, message)| message.text.as_str()).collect::<Vec<_>>(),
            ["38", "39"]
        );
        assert_eq!(room.after(40).count(), 0);
    }
}

//! The answer of a watch: taken apart without decoding its events, and put together again.
//!
//! An event is kept in two parts, so that one copy serves the watchers that asked for the previous
//! value and those that did not.

use bytes::{BufMut, Bytes};
use prost::encoding::{encode_varint, encoded_len_varint};

use super::{Header, Rewrite, WireError, header, kv, read::Reader, rewrite, schema};

const HEADER: u32 = 1;
const WATCH_ID: u32 = 2;
const CREATED: u32 = 3;
const CANCELED: u32 = 4;
const COMPACT_REVISION: u32 = 5;
const CANCEL_REASON: u32 = 6;
const FRAGMENT: u32 = 7;
const EVENTS: u32 = 11;

const EVENT_TYPE: u32 = 1;
const EVENT_KV: u32 = 2;
const EVENT_PREV_KV: u32 = 3;

/// A `WatchResponse` whose events are still encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchAnswer {
    /// All zero where the answer has none.
    pub header: Header,
    pub watch_id: i64,
    pub created: bool,
    pub canceled: bool,
    pub compact_revision: i64,
    pub cancel_reason: String,
    /// Whether the next answer goes on with the same revision.
    pub fragment: bool,
    pub events: Vec<RawEvent>,
}

/// One `mvccpb.Event`, in an allocation of its own: events are kept long, and must not keep the
/// buffers in which they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEvent {
    pub mod_revision: i64,
    /// Whether the key was deleted instead of being put.
    pub is_delete: bool,
    /// Where the key stands.
    key: (u32, u32),
    encoded: EncodedEvent,
}

/// An encoded event, its revisions as they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedEvent {
    /// The event without the previous value, then the previous `KeyValue`.
    bytes: Box<[u8]>,
    /// Where the previous value begins; the end where there is none.
    base: u32,
    has_previous: bool,
}

impl WatchAnswer {
    /// # Errors
    /// Where `response` is not a `WatchResponse`.
    pub fn parse(response: &Bytes) -> Result<Self, WireError> {
        let mut answer = Self::default();
        let mut reader = Reader::new(response);
        while let Some(field) = reader.next()? {
            match field.number {
                HEADER => answer.header = header::read(reader.enter(&field)?)?,
                WATCH_ID => answer.watch_id = field.int64()?,
                CREATED => answer.created = field.varint()? != 0,
                CANCELED => answer.canceled = field.varint()? != 0,
                COMPACT_REVISION => answer.compact_revision = field.int64()?,
                CANCEL_REASON => {
                    answer.cancel_reason = String::from_utf8_lossy(field.content()?).into_owned();
                }
                FRAGMENT => answer.fragment = field.varint()? != 0,
                EVENTS => answer.events.push(RawEvent::parse(field.content()?)?),
                _ => {}
            }
        }
        Ok(answer)
    }
}

impl RawEvent {
    fn parse(event: &[u8]) -> Result<Self, WireError> {
        let (mut kv, mut previous, mut kind) = (None, None, 0);
        let mut reader = Reader::new(event);
        while let Some(field) = reader.next()? {
            match field.number {
                EVENT_TYPE => kind = field.varint()?,
                EVENT_KV if kv.is_some() => return Err(WireError::Repeated),
                EVENT_KV => kv = Some(Kv::read(reader.enter(&field)?)?),
                EVENT_PREV_KV if previous.is_some() => return Err(WireError::Repeated),
                EVENT_PREV_KV => previous = Some((field.start, field.end, field.content()?)),
                _ => {}
            }
        }
        let Kv { key, mod_revision } = kv.ok_or(WireError::Malformed)?;
        let (cut, behind, value) = previous.unwrap_or((event.len(), event.len(), &[]));
        let (before, behind) = (event.get(..cut), event.get(behind..));
        let parts = [before, behind].map(Option::unwrap_or_default);
        // Every known server writes the previous value last.
        let moved = if key.0 < cut {
            0
        } else {
            event.len() - parts[0].len() - parts[1].len()
        };
        let place = |at: usize| {
            let at = u32::try_from(at.saturating_sub(moved));
            at.map_err(|_| WireError::Malformed)
        };
        Ok(Self {
            mod_revision,
            is_delete: kind == 1,
            key: (place(key.0)?, place(key.1)?),
            encoded: EncodedEvent {
                base: u32::try_from(parts[0].len() + parts[1].len())
                    .map_err(|_| WireError::Malformed)?,
                bytes: [parts[0], parts[1], value].concat().into(),
                has_previous: previous.is_some(),
            },
        })
    }

    #[must_use]
    pub fn key(&self) -> &[u8] {
        let (from, to) = (self.key.0 as usize, self.key.1 as usize);
        self.encoded.bytes.get(from..to).unwrap_or_default()
    }

    /// How many bytes the event takes, its previous value included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.encoded.len(true)
    }

    /// Always false: an event has at least a key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The event with its revisions rewritten.
    ///
    /// # Errors
    /// Where the event is malformed behind what was read so far.
    pub fn rewritten(&self, with: &mut impl Rewrite) -> Result<EncodedEvent, WireError> {
        let (base, previous) = self.encoded.parts();
        let edits = rewrite::edits(&schema::EVENT, base, with)?;
        let behind = rewrite::edits(&schema::KEY_VALUE, previous, with)?;
        let size = edits.new_len(base)? + behind.new_len(previous)?;
        let mut bytes = Vec::with_capacity(size);
        edits.apply_into(base, &mut bytes)?;
        let base = u32::try_from(bytes.len()).map_err(|_| WireError::Malformed)?;
        behind.apply_into(previous, &mut bytes)?;
        Ok(EncodedEvent {
            bytes: bytes.into(),
            base,
            has_previous: self.encoded.has_previous,
        })
    }
}

/// What of an event's `KeyValue` is looked at.
struct Kv {
    /// Where the key stands in the event.
    key: (usize, usize),
    mod_revision: i64,
}

impl Kv {
    fn read(mut reader: Reader<'_>) -> Result<Self, WireError> {
        let mut found = Self {
            key: (0, 0),
            mod_revision: 0,
        };
        while let Some(field) = reader.next()? {
            match field.number {
                kv::KEY => found.key = (field.end - field.content()?.len(), field.end),
                kv::MOD_REVISION => found.mod_revision = field.int64()?,
                kv::CREATE_REVISION | kv::VERSION | kv::LEASE => drop(field.varint()?),
                kv::VALUE => drop(field.content()?),
                _ => {}
            }
        }
        Ok(found)
    }
}

impl EncodedEvent {
    /// The event without the previous value, and that value: nothing where there is none.
    fn parts(&self) -> (&[u8], &[u8]) {
        let parts = self.bytes.split_at_checked(self.base as usize);
        parts.unwrap_or_default()
    }

    fn previous(&self) -> Option<&[u8]> {
        self.has_previous.then(|| self.parts().1)
    }

    /// How long the event is, with its previous value or without it.
    #[must_use]
    pub fn len(&self, previous: bool) -> usize {
        let previous = self.previous().filter(|_| previous);
        self.base as usize + previous.map_or(0, |kv| chunk_len(kv.len()))
    }

    /// How much the event adds to the answer that it stands in.
    #[must_use]
    pub fn field_len(&self, previous: bool) -> usize {
        chunk_len(self.len(previous))
    }

    /// Appends the event to an encoded `WatchResponse`, whose last field it is.
    pub fn put(&self, previous: bool, out: &mut Vec<u8>) {
        put_prefix(EVENTS, self.len(previous), out);
        out.put_slice(self.parts().0);
        if let Some(kv) = self.previous().filter(|_| previous) {
            put_prefix(EVENT_PREV_KV, kv.len(), out);
            out.put_slice(kv);
        }
    }
}

// All fields here have numbers below 16, so that a tag is one byte.

fn chunk_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

fn put_prefix(number: u32, len: usize, out: &mut Vec<u8>) {
    encode_varint(u64::from(number << 3 | 2), out);
    encode_varint(len as u64, out);
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::{
        etcdserverpb::{ResponseHeader, WatchResponse},
        mvccpb::{Event, KeyValue},
        wire::RevisionField,
    };

    fn kv(revision: i64) -> KeyValue {
        KeyValue {
            key: "k".into(),
            create_revision: 1,
            mod_revision: revision,
            version: 3,
            value: "v".into(),
            lease: 0,
        }
    }

    fn response() -> WatchResponse {
        let put = Event {
            r#type: 0,
            kv: Some(kv(7)),
            prev_kv: Some(kv(5)),
        };
        let delete = Event {
            r#type: 1,
            kv: Some(kv(300)),
            prev_kv: None,
        };
        WatchResponse {
            header: Some(ResponseHeader {
                revision: 9,
                ..ResponseHeader::default()
            }),
            watch_id: 3,
            fragment: true,
            events: vec![put, delete],
            ..WatchResponse::default()
        }
    }

    struct Plus(i64);

    impl Rewrite for Plus {
        fn header(&mut self, header: Header) -> Header {
            header
        }

        fn revision(&mut self, _: RevisionField, revision: i64) -> i64 {
            revision + self.0
        }
    }

    #[test]
    fn taken_apart_and_put_together_it_is_the_same() {
        let response = response();
        let encoded = Bytes::from(response.encode_to_vec());
        let answer = WatchAnswer::parse(&encoded).unwrap();
        assert_eq!((answer.header.revision, answer.watch_id), (9, 3));
        assert!(answer.fragment && !answer.created && !answer.canceled);
        let kinds: Vec<_> = answer.events.iter().map(|e| e.is_delete).collect();
        assert_eq!(kinds, [false, true]);
        for previous in [true, false] {
            let mut expected = response.clone();
            let mut out = WatchResponse {
                events: Vec::new(),
                ..response.clone()
            }
            .encode_to_vec();
            for (event, raw) in expected.events.iter_mut().zip(&answer.events) {
                let before = out.len();
                let encoded = raw.rewritten(&mut Plus(200)).unwrap();
                encoded.put(previous, &mut out);
                assert_eq!(out.len() - before, encoded.field_len(previous));
                for kv in [&mut event.kv, &mut event.prev_kv].into_iter().flatten() {
                    kv.create_revision += 200;
                    kv.mod_revision += 200;
                }
                if !previous {
                    event.prev_kv = None;
                }
            }
            assert_eq!(WatchResponse::decode(&out[..]).unwrap(), expected);
        }
    }

    #[test]
    fn fields_behind_the_previous_value_are_kept() {
        let kv = kv(7).encode_to_vec();
        let mut event = Vec::new();
        put_prefix(EVENT_PREV_KV, kv.len(), &mut event);
        event.extend_from_slice(&kv);
        put_prefix(EVENT_KV, kv.len(), &mut event);
        event.extend_from_slice(&kv);
        let raw = RawEvent::parse(&event).unwrap();
        assert_eq!(raw.encoded.parts().0.len(), kv.len() + 2);
        assert_eq!(raw.encoded.previous(), Some(&kv[..]));
        assert_eq!(raw.key(), b"k");
    }

    #[test]
    fn an_event_without_a_key_has_an_empty_one() {
        let mut event = Vec::new();
        put_prefix(EVENT_PREV_KV, 3, &mut event);
        event.extend_from_slice(&[0x18, 0xac, 0x02]);
        put_prefix(EVENT_KV, 0, &mut event);
        let raw = RawEvent::parse(&event).unwrap();
        assert_eq!((raw.key(), raw.mod_revision), (&[][..], 0));
        assert_eq!(raw.len(), event.len());
    }

    #[test]
    fn an_event_without_a_key_value_is_refused() {
        let response = WatchResponse {
            events: vec![Event::default()],
            ..WatchResponse::default()
        };
        let encoded = Bytes::from(response.encode_to_vec());
        assert_eq!(WatchAnswer::parse(&encoded), Err(WireError::Malformed));
    }
}

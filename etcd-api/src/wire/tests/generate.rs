//! Makes encoded messages of any kind out of random bytes: each field now and then, fields that
//! nobody knows, any order, longer varints than need be.
//!
//! The random bytes may come from proptest or from a fuzzer. Fewer make a smaller message, and none
//! an empty one, so that a failing case shrinks by itself.

use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::{FieldDescriptorProto, field_descriptor_proto::Type};

use super::api;

/// How many messages inside one another are made.
const DEPTH: usize = 14;

/// Random bytes, of which 0 follow when they have run out.
pub(super) struct Entropy<'a>(pub(super) &'a [u8]);

impl Entropy<'_> {
    pub(super) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        let byte = usize::from(self.byte());
        let value = if limit > 256 {
            byte << 8 | usize::from(self.byte())
        } else {
            byte
        };
        value % limit.max(1)
    }

    /// Numbers of every width, most of them at an edge.
    pub(super) fn number(&mut self) -> u64 {
        let shift = 7 * self.below(10);
        match self.below(6) {
            0 => u64::from(self.byte()),
            1 => 1 << shift,
            2 => (1 << shift) - 1,
            3 => u64::from(self.byte()).wrapping_neg(),
            4 => (1 << 32) + u64::from(self.byte() & 7),
            _ => (u64::from(self.byte()) << shift) + self.below(1 << 16) as u64,
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        // Long ones, so that the lengths around them are near to where they widen.
        let length = match self.byte() {
            length @ 0..200 => usize::from(length % 8),
            length => usize::from(length - 200) * 3,
        };
        vec![self.byte(); length]
    }
}

/// An encoded message of this name that prost decodes.
pub(super) fn message(name: &str, entropy: &mut Entropy<'_>) -> Vec<u8> {
    nested(name, entropy, DEPTH)
}

fn nested(name: &str, entropy: &mut Entropy<'_>, depth: usize) -> Vec<u8> {
    let mut fields = Vec::new();
    let chosen = entropy.byte();
    for field in api::fields(name) {
        for _ in 0..occurrences(name, field, chosen, entropy) {
            fields.push(known(field, entropy, depth));
        }
    }
    for _ in 0..entropy.byte().saturating_sub(200) / 20 {
        fields.push(unknown(name, entropy, depth.min(3)));
    }
    if entropy.byte() % 2 == 1 {
        for last in (1..fields.len()).rev() {
            fields.swap(last, entropy.below(last + 1));
        }
    }
    fields.concat()
}

/// How often a field stands in a message: a scalar may do so twice.
fn occurrences(
    message: &str,
    field: &FieldDescriptorProto,
    chosen: u8,
    entropy: &mut Entropy<'_>,
) -> usize {
    if let Some(oneof) = field.oneof_index {
        let members = api::fields(message).iter();
        let members: Vec<_> = members
            .filter(|other| other.oneof_index == Some(oneof))
            .map(FieldDescriptorProto::number)
            .collect();
        // One more, for none of them.
        let index = usize::from(chosen) % (members.len() + 1);
        return usize::from(members.get(index) == Some(&field.number()));
    }
    match (api::repeated(field), api::is_message(field)) {
        (true, _) => entropy.below(4),
        (false, true) => entropy.below(2),
        (false, false) => [0, 1, 1, 1, 0, 1, 1, 2][entropy.below(8)],
    }
}

fn known(field: &FieldDescriptorProto, entropy: &mut Entropy<'_>, depth: usize) -> Vec<u8> {
    let number = api::number(field);
    match field.r#type() {
        Type::Message if depth == 0 => chunk(number, &[], entropy),
        Type::Message => {
            let inner = nested(field.type_name(), entropy, depth - 1);
            chunk(number, &inner, entropy)
        }
        Type::Bytes => chunk(number, &entropy.bytes(), entropy),
        Type::String => {
            let text: Vec<u8> = entropy.bytes().iter().map(|byte| byte & 0x7f).collect();
            chunk(number, &text, entropy)
        }
        Type::Enum | Type::Bool if entropy.byte() < 210 => {
            let value = entropy.byte() % 6;
            integer(number, u64::from(value), entropy)
        }
        _ => integer(number, entropy.number(), entropy),
    }
}

/// A field, of any wire type, whose number the message does not have.
fn unknown(message: &str, entropy: &mut Entropy<'_>, depth: usize) -> Vec<u8> {
    let numbers = [
        9,
        10,
        14,
        15,
        16,
        17,
        31,
        63,
        2047,
        2048,
        18_999,
        (1 << 29) - 1,
    ];
    let free: Vec<u32> = numbers
        .into_iter()
        .filter(|number| {
            api::fields(message)
                .iter()
                .all(|field| api::number(field) != *number)
        })
        .collect();
    let number = free[entropy.below(free.len())];
    let mut out = Vec::new();
    match entropy.below(5) {
        0 => return integer(number, entropy.number(), entropy),
        1 => return chunk(number, &entropy.bytes(), entropy),
        2 => {
            encode_key(number, WireType::ThirtyTwoBit, &mut out);
            out.extend([entropy.byte(); 4]);
        }
        3 => {
            encode_key(number, WireType::SixtyFourBit, &mut out);
            out.extend([entropy.byte(); 8]);
        }
        _ => {
            encode_key(number, WireType::StartGroup, &mut out);
            for _ in 0..entropy.below(3).min(depth) {
                out.extend(unknown(message, entropy, depth - 1));
            }
            encode_key(number, WireType::EndGroup, &mut out);
        }
    }
    out
}

fn integer(number: u32, value: u64, entropy: &mut Entropy<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    varint(u64::from(number << 3), entropy, &mut out);
    varint(value, entropy, &mut out);
    out
}

fn chunk(number: u32, content: &[u8], entropy: &mut Entropy<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    varint(u64::from(number << 3 | 2), entropy, &mut out);
    varint(content.len() as u64, entropy, &mut out);
    out.extend(content);
    out
}

/// A varint, now and then longer than it need be.
fn varint(value: u64, entropy: &mut Entropy<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    encode_varint(value, out);
    let longest = 10 - (out.len() - start);
    let longer = usize::from(entropy.byte().saturating_sub(240)).min(longest);
    if longer > 0 {
        *out.last_mut().unwrap() |= 0x80;
        out.resize(out.len() + longer - 1, 0x80);
        out.push(0);
    }
}

/// Damages an encoding in a few places.
pub(super) fn damage(bytes: &mut Vec<u8>, entropy: &mut Entropy<'_>) {
    for _ in 0..=entropy.below(4) {
        let at = entropy.below(bytes.len() + 1);
        let end = (at + entropy.below(12)).min(bytes.len());
        match entropy.below(5) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.insert(at, entropy.byte()),
            // Whole fields twice, if it strikes well.
            3 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << entropy.below(8);
                }
            }
        }
    }
}

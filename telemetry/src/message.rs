//! A message of OTLP as a tree, and its two spellings: protobuf and JSON.
//!
//! Apart and pure. One tree for both, so that they cannot say different things. Protobuf as the encoding guide of Protocol
//! Buffers has it; JSON as the OTLP specification has it (lower camel case, ids in hex, 64-bit numbers as text, enums as
//! numbers).

use serde_json::{Map, Value, json};

use crate::trace::hex;

/// A message: number, JSON name and content of each field, in order.
#[derive(Debug, Clone, Default)]
pub struct Message(Vec<(u32, &'static str, Field)>);

/// What a field holds.
#[derive(Debug, Clone)]
pub(crate) enum Field {
    Text(String),
    /// An id: bytes, and hex in JSON.
    Id(Vec<u8>),
    Fixed64(u64),
    /// An enum or a small number.
    Number(u32),
    /// `int64`.
    Int(i64),
    /// `sfixed64`.
    FixedInt(i64),
    Bool(bool),
    Double(f64),
    One(Message),
    Many(Vec<Message>),
    Fixed64s(Vec<u64>),
    Doubles(Vec<f64>),
}

impl Message {
    /// The same with one field more.
    pub(crate) fn with(mut self, number: u32, name: &'static str, field: Field) -> Self {
        self.0.push((number, name, field));
        self
    }

    pub(crate) fn to_protobuf(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    pub(crate) fn to_json(&self) -> Value {
        let fields = self
            .0
            .iter()
            .map(|(_, name, field)| ((*name).to_owned(), field.to_json()));
        Value::Object(fields.collect::<Map<_, _>>())
    }

    fn write(&self, out: &mut Vec<u8>) {
        for (number, _, field) in &self.0 {
            field.write(*number, out);
        }
    }
}

/// The wire types of protobuf.
const VARINT: u32 = 0;
const EIGHT_BYTES: u32 = 1;
const LENGTH: u32 = 2;

impl Field {
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        let tag = |kind: u32, out: &mut Vec<u8>| varint(u64::from(number << 3 | kind), out);
        let eight = |bytes: [u8; 8], out: &mut Vec<u8>| {
            tag(EIGHT_BYTES, out);
            out.extend(bytes);
        };
        let whole = |bytes: &[u8], out: &mut Vec<u8>| {
            tag(LENGTH, out);
            varint(bytes.len().try_into().unwrap_or(u64::MAX), out);
            out.extend(bytes);
        };
        match self {
            Self::Text(text) => whole(text.as_bytes(), out),
            Self::Id(bytes) => whole(bytes, out),
            Self::Fixed64(value) => eight(value.to_le_bytes(), out),
            Self::FixedInt(value) => eight(value.to_le_bytes(), out),
            Self::Double(value) => eight(value.to_le_bytes(), out),
            Self::Number(value) => {
                tag(VARINT, out);
                varint(u64::from(*value), out);
            }
            Self::Int(value) => {
                tag(VARINT, out);
                varint(value.cast_unsigned(), out);
            }
            Self::Bool(value) => {
                tag(VARINT, out);
                varint(u64::from(*value), out);
            }
            Self::One(message) => whole(&message.to_protobuf(), out),
            Self::Many(messages) => {
                for message in messages {
                    whole(&message.to_protobuf(), out);
                }
            }
            Self::Fixed64s(values) => {
                let bytes: Vec<_> = values.iter().flat_map(|it| it.to_le_bytes()).collect();
                whole(&bytes, out);
            }
            Self::Doubles(values) => {
                let bytes: Vec<_> = values.iter().flat_map(|it| it.to_le_bytes()).collect();
                whole(&bytes, out);
            }
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Id(bytes) => json!(hex(bytes)),
            Self::Fixed64(value) => json!(value.to_string()),
            Self::Int(value) | Self::FixedInt(value) => json!(value.to_string()),
            Self::Number(value) => json!(value),
            Self::Bool(value) => json!(value),
            Self::Double(value) => json!(value),
            Self::One(message) => message.to_json(),
            Self::Many(messages) => messages.iter().map(Message::to_json).collect(),
            Self::Fixed64s(values) => values.iter().map(|it| json!(it.to_string())).collect(),
            Self::Doubles(values) => values.iter().map(|it| json!(it)).collect(),
        }
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::{Field, Message};

    #[test]
    fn a_message_is_spelled_as_the_encoding_guide_does() {
        // The examples of the guide: field 1 = 150; field 2 = "testing"; both in field 3.
        let one = Message::default().with(1, "a", Field::Int(150));
        assert_eq!(one.to_protobuf(), [0x08, 0x96, 0x01]);
        let two = Message::default().with(2, "b", Field::Text("testing".to_owned()));
        assert_eq!(two.to_protobuf(), *b"\x12\x07testing");
        let three = Message::default().with(3, "c", Field::One(one));
        assert_eq!(three.to_protobuf(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let negative = Message::default().with(1, "a", Field::Int(-2));
        assert_eq!(
            negative.to_protobuf(),
            [8, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]
        );
        let far = Message::default().with(16, "d", Field::Number(1));
        assert_eq!(far.to_protobuf(), [0x80, 0x01, 0x01]);
    }
}

//! The messages of the API as their descriptors have them, which owe nothing to the tables under
//! test.

use std::{collections::BTreeMap, sync::OnceLock};

use prost::Message as _;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

use super::FILE_DESCRIPTOR_SET;

/// The fields of every message, by its full name with a dot before it.
pub(super) fn messages() -> &'static BTreeMap<String, Vec<FieldDescriptorProto>> {
    static MESSAGES: OnceLock<BTreeMap<String, Vec<FieldDescriptorProto>>> = OnceLock::new();
    MESSAGES.get_or_init(|| {
        let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
        let mut messages = BTreeMap::new();
        for file in files {
            collect(
                &format!(".{}", file.package()),
                file.message_type,
                &mut messages,
            );
        }
        messages
    })
}

fn collect(
    parent: &str,
    descriptors: Vec<DescriptorProto>,
    into: &mut BTreeMap<String, Vec<FieldDescriptorProto>>,
) {
    for descriptor in descriptors {
        let name = format!("{parent}.{}", descriptor.name());
        collect(&name, descriptor.nested_type, into);
        into.insert(name, descriptor.field);
    }
}

pub(super) fn fields(message: &str) -> &'static [FieldDescriptorProto] {
    &messages()[message]
}

pub(super) fn number(field: &FieldDescriptorProto) -> u32 {
    field.number().try_into().unwrap()
}

pub(super) fn repeated(field: &FieldDescriptorProto) -> bool {
    field.label() == Label::Repeated
}

pub(super) fn is_message(field: &FieldDescriptorProto) -> bool {
    field.r#type() == Type::Message
}

/// Whether the field holds a number that rewriting may change, or may add.
pub(super) fn rewritable(message: &str, field: &FieldDescriptorProto) -> bool {
    message == ".etcdserverpb.ResponseHeader" || field.name().ends_with("revision")
}

//! The JSON schema of the topology file, made from its input types: for editors and for checks
//! before a file is rolled out. It says what a file can say; whether names, expressions and
//! endpoints are right is said by `keyloom topology check` alone.

use schemars::{Schema, generate::SchemaSettings};
use serde_json::{Value, json};

use crate::input::FileInput;

/// Stable: editors know the schema by it.
const ID: &str = "urn:keyloom:topology";

const MATCHERS: [&str; 4] = ["prefix", "regexp", "namespace", "customresource"];

/// The JSON schema (draft 2020-12) of a topology file. The same at every call.
#[must_use]
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<FileInput>();
    schema.insert("$id".into(), ID.into());
    schema.insert("title".into(), "Keyloom topology".into());
    tell_backends_apart(&mut schema);
    schema.to_value()
}

/// The default store and the backends have one type. A backend has a matcher and a name, which may
/// stand in the matcher; the default store has no matcher. Both have an endpoint.
fn tell_backends_apart(schema: &mut Schema) {
    let given = |names: &[&str]| -> Vec<Value> {
        let names = names.iter().map(|name| json!({"required": [name]}));
        names.collect()
    };
    let matchers = given(&MATCHERS);
    let endpoint = json!({"oneOf": given(&["endpoint", "endpoints"])});
    if let Some(default) = schema.pointer_mut("/properties/default") {
        add(default, "not", json!({ "anyOf": matchers.clone() }));
        add(default, "allOf", json!([endpoint.clone()]));
    }
    if let Some(backend) = schema.pointer_mut("/properties/backends/items") {
        let named_inside = MATCHERS.map(|matcher| {
            let inner = json!({"required": ["name"]});
            json!({"required": [matcher], "properties": {matcher: inner}})
        });
        let mut named = given(&["name"]);
        named.extend(named_inside);
        add(backend, "oneOf", matchers.into());
        add(backend, "allOf", json!([endpoint, {"anyOf": named}]));
    }
}

fn add(schema: &mut Value, keyword: &str, value: Value) {
    if let Some(schema) = schema.as_object_mut() {
        schema.insert(keyword.to_owned(), value);
    }
}

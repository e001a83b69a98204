//! The JSON Schema of the JSON report, generated from the model's types.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use stillframe_model::{REPORT_SCHEMA, Report};

/// The JSON Schema (draft 2020-12) of what the `json` format writes. Committed as `docs/report.schema.json`.
///
/// It describes what this version writes; a later one may add members, so readers ignore what they do not know.
#[must_use]
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<Report>().to_value();
    // Two rules of the model that no type says.
    if let Some(Value::Object(version)) = schema.pointer_mut("/properties/schema") {
        version.insert("const".to_owned(), json!(REPORT_SCHEMA));
    }
    if let Some(Value::Object(row)) = schema.pointer_mut("/$defs/Coverage") {
        row.insert("if".to_owned(), json!({"properties": {"status": {"const": "scanned"}}}));
        row.insert("else".to_owned(), json!({"required": ["reason"]}));
    }
    // The same text whatever order serde_json keeps its members in.
    schema.sort_all_objects();
    schema
}

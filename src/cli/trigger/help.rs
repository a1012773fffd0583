//! `iii trigger FN --help`: what a live engine knows about the function (CLI-30).

use serde_json::Value;

use crate::cli::output::printable;

/// The help for one function, from the answer of `engine::functions::info`.
pub fn describe(info: &Value) -> String {
    let text = |name: &str| info.get(name).and_then(Value::as_str).map(printable);
    let id = text("function_id").unwrap_or_default();
    let mut out = format!("{id}\n");
    if let Some(description) = text("description") {
        out += &format!("\n{description}\n");
    }
    out += &format!("\nUsage: iii trigger {id} [OPTIONS] [KEY=VALUE]...\n\nParameters:\n");
    let schema = info.get("request_schema").or_else(|| info.get("request_format"));
    let rows = schema.map(parameters).unwrap_or_default();
    if rows.is_empty() {
        return out + "  (no request schema published)\n";
    }
    let headings = ["NAME", "TYPE", "REQUIRED", "DESCRIPTION"].map(str::to_owned);
    out + &table(&[vec![headings], rows].concat())
}

/// Name, type, required and description of each property of a JSON Schema.
fn parameters(schema: &Value) -> Vec<[String; 4]> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Vec::new() };
    let required = |name: &str| {
        let names = schema.get("required").and_then(Value::as_array);
        names.is_some_and(|names| names.iter().any(|required| required.as_str() == Some(name)))
    };
    let row = |(name, property): (&String, &Value)| {
        let description = property.get("description").and_then(Value::as_str).unwrap_or_default();
        [
            printable(name),
            type_of(property),
            if required(name) { "yes" } else { "no" }.to_owned(),
            printable(description).replace('\n', " "),
        ]
    };
    properties.iter().map(row).collect()
}

fn type_of(property: &Value) -> String {
    match property.get("type") {
        Some(Value::String(name)) => printable(name),
        Some(Value::Array(names)) => printable(&names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("|")),
        _ => "any".to_owned(),
    }
}

fn table(rows: &[[String; 4]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [first, second, third] = [width(0), width(1), width(2)];
    let line = |[a, b, c, d]: &[String; 4]| format!("  {a:first$}  {b:second$}  {c:third$}  {d}").trim_end().to_owned();
    rows.iter().map(|row| line(row) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cli_30_parameter_table() {
        let info = json!({
            "function_id": "math::add", "description": "Adds\u{1b} numbers",
            "request_schema": {
                "type": "object", "required": ["a"],
                "properties": {"a": {"type": "number", "description": "left"}, "b": {"type": ["number", "null"]}},
            },
        });
        assert_eq!(
            describe(&info),
            "math::add\n\nAdds numbers\n\nUsage: iii trigger math::add [OPTIONS] [KEY=VALUE]...\n\nParameters:\n\
             \x20 NAME  TYPE         REQUIRED  DESCRIPTION\n\
             \x20 a     number       yes       left\n\
             \x20 b     number|null  no\n"
        );
        let bare = describe(&json!({"function_id": "f"}));
        assert!(bare.ends_with("Parameters:\n  (no request schema published)\n"), "{bare}");
    }
}

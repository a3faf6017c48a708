//! TOML flattened to dotted keys: `node.id = 1` and `[node]` with `id = 1` are the same.

use toml::Value;

/// Reads a TOML text into keys and values as they would stand on a flag.
///
/// # Errors
/// What is wrong with it, with its line.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, Vec<String>> {
    let table = text.parse::<toml::Table>().map_err(|error| vec![describe(text, &error)])?;
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    flatten("", Value::Table(table), &mut entries, &mut problems);
    if problems.is_empty() { Ok(entries) } else { Err(problems) }
}

fn describe(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map_or(1, |span| text.bytes().take(span.start).filter(|b| *b == b'\n').count() + 1);
    let hint = "a text needs quotes here; a file of plain key=value lines is named *.properties";
    format!("line {line}: {} ({hint})", error.message())
}

fn flatten(name: &str, value: Value, entries: &mut Vec<(String, String)>, problems: &mut Vec<String>) {
    let scalar = match value {
        Value::Table(table) => {
            for (key, inner) in table {
                let name = if name.is_empty() { key } else { format!("{name}.{key}") };
                flatten(&name, inner, entries, problems);
            }
            return;
        }
        Value::Array(items) => items.into_iter().map(scalar).collect::<Option<Vec<_>>>().map(|items| items.join(",")),
        other => scalar(other),
    };
    match scalar {
        Some(text) => entries.push((name.to_owned(), text)),
        None => problems.push(format!("{name}: a value is a text, a whole number, true, false, or a list of texts")),
    }
}

fn scalar(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(yes) => Some(yes.to_string()),
        Value::Float(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

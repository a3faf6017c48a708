//! Lines as in Kafka's `server.properties`: Java's format, read as Java does.

/// A key, its value and the line it begins on, from 1.
pub(super) type Property = (String, String, usize);

/// Reads all lines.
///
/// # Errors
/// What is wrong with a line, and which.
pub(super) fn parse(text: &str) -> Result<Vec<Property>, String> {
    let mut properties = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let mut logical = line.trim_start().to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while continues(&logical) {
            logical.pop();
            let Some((_, next)) = lines.next() else { break };
            logical.push_str(next.trim_start());
        }
        let number = index + 1;
        let (key, value) = split(&logical);
        let (key, value) = (unescape(key), unescape(value));
        let (Some(key), Some(value)) = (key, value) else {
            return Err(format!("line {number}: a '\\u' needs four hexadecimal digits"));
        };
        if key.is_empty() {
            return Err(format!("line {number}: there is no key before the '='"));
        }
        properties.push((key, value.trim_end().to_owned(), number));
    }
    Ok(properties)
}

/// Whether a line ends in a backslash that is not itself escaped.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Splits at the first `=`, `:` or space that is not escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.char_indices().find_map(|(at, c)| {
        let ends = !escaped && (matches!(c, '=' | ':') || c.is_whitespace());
        escaped = c == '\\' && !escaped;
        ends.then_some(at)
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start();
    (key, rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start())
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\u{c}'),
            Some('u') => out.push(unicode(&mut chars)?),
            Some(other) => out.push(other),
            None => {}
        }
    }
    Some(out)
}

fn unicode(chars: &mut std::str::Chars<'_>) -> Option<char> {
    let (digits, rest) = chars.as_str().split_at_checked(4)?;
    *chars = rest.chars();
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    char::from_u32(u32::from_str_radix(digits, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: a file that Java reads is read the same here.
    #[test]
    fn java_lines() {
        let text = "# comment\n! too\n\n a = 1\nb:2\nc 3\nlist=x,\\\n     y\npath=C:\\\\dir\nuni=\\u00e9\nempty=\nesc\\=aped=v \n";
        let want = [
            ("a", "1", 4),
            ("b", "2", 5),
            ("c", "3", 6),
            ("list", "x,y", 7),
            ("path", "C:\\dir", 9),
            ("uni", "é", 10),
            ("empty", "", 11),
            ("esc=aped", "v", 12),
        ];
        let got = parse(text).unwrap();
        assert_eq!(got.iter().map(|(k, v, n)| (k.as_str(), v.as_str(), *n)).collect::<Vec<_>>(), want);
        assert!(parse("a=\\u12").unwrap_err().starts_with("line 1"));
        assert!(parse("ok=1\n=x").unwrap_err().starts_with("line 2"));
    }
}

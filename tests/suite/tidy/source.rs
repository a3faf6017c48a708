//! Just enough reading of Rust for the tidy rules: what is code and what is not, words, modules, functions and their lengths.

/// A Rust source with comments, strings and characters blanked out; lines stay where they are.
pub(super) struct Code {
    text: String,
}

/// A function and how many lines it takes, from `fn` to its closing brace.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) lines: usize,
}

impl Code {
    pub(super) fn of(source: &str) -> Self {
        let bytes = source.as_bytes();
        let mut text = String::with_capacity(source.len());
        let mut at = 0;
        while at < bytes.len() {
            let end = at + blank_len(&source[at..], text.chars().next_back());
            if end == at {
                let c = source[at..].chars().next().unwrap();
                text.push(c);
                at += c.len_utf8();
            } else {
                text.extend(source[at..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                at = end;
            }
        }
        Self { text }
    }

    /// Without the unit tests at the file's end.
    pub(super) fn without_tests(mut self) -> Self {
        let start =
            self.text.match_indices("#[cfg(test)]").find(|(at, mark)| self.text[at + mark.len()..].trim_start().starts_with("mod "));
        if let Some((start, _)) = start {
            self.text.truncate(start);
        }
        self
    }

    /// Identifiers, numbers, `::` and `!`, in order.
    fn words(&self) -> Vec<&str> {
        let mut words = Vec::new();
        let mut rest = self.text.as_str();
        while let Some(c) = rest.chars().next() {
            let length = if is_word(c) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else if c == '!' {
                1
            } else {
                rest = &rest[c.len_utf8()..];
                continue;
            };
            words.push(&rest[..length]);
            rest = &rest[length..];
        }
        words
    }

    /// Whether the words of `path` (`fs`, `SystemTime::now`, `todo!`) stand in it one after the other.
    pub(super) fn mentions(&self, path: &str) -> bool {
        let wanted = Self { text: path.to_owned() };
        let wanted = wanted.words();
        self.words().windows(wanted.len()).any(|seen| seen == wanted)
    }

    /// Names of the modules that it declares in files of their own.
    pub(super) fn modules(&self) -> Vec<&str> {
        let declared = self.text.split("mod ").skip(1).filter_map(|after| after.split_once(';'));
        declared.map(|(name, _)| name.trim()).filter(|name| !name.is_empty() && name.chars().all(is_word)).collect()
    }

    /// Whether it declares something of that name.
    pub(super) fn declares(&self, name: &str) -> bool {
        const KINDS: [&str; 8] = ["struct", "enum", "trait", "fn", "type", "const", "static", "mod"];
        self.words().windows(2).any(|pair| KINDS.contains(&pair[0]) && pair[1] == name)
    }

    /// All functions with a body.
    pub(super) fn functions(&self) -> Vec<Function> {
        let starts = self.text.match_indices("fn ").filter(|(at, _)| !self.text[..*at].ends_with(is_word));
        starts.filter_map(|(at, _)| function(&self.text[at..])).collect()
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// How many bytes at the front of `rest` are no code.
fn blank_len(rest: &str, before: Option<char>) -> usize {
    let after_word = before.is_some_and(is_word);
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    if rest.starts_with('"') {
        return quoted_len(rest, 1);
    }
    if !after_word && (rest.starts_with("b\"") || rest.starts_with("c\"")) {
        return quoted_len(rest, 2);
    }
    if !after_word && (rest.starts_with("r\"") || rest.starts_with("r#") || rest.starts_with("br")) {
        return raw_len(rest);
    }
    if rest.starts_with('\'') {
        return character_len(rest);
    }
    0
}

fn quoted_len(rest: &str, open: usize) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(open) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn raw_len(rest: &str) -> usize {
    let after = rest.trim_start_matches('b').trim_start_matches('r');
    let hashes = after.len() - after.trim_start_matches('#').len();
    let open = rest.len() - after.len() + hashes;
    if !rest[open..].starts_with('"') {
        return 0; // `r#type`, `break`, …
    }
    let close = format!("\"{}", "#".repeat(hashes));
    rest[open + 1..].find(&close).map_or(rest.len(), |end| open + 1 + end + close.len())
}

/// A character ends in a quote; a lifetime does not.
fn character_len(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(rest.len(), |end| 3 + end + 1),
        Some(_) => chars.next().filter(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

fn function(text: &str) -> Option<Function> {
    let name: String = text["fn ".len()..].chars().take_while(|c| is_word(*c)).collect();
    let open = text.find(['{', ';']).filter(|at| text[*at..].starts_with('{'))?;
    let mut depth = 0;
    for (at, c) in text[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let lines = text[..=open + at].lines().count();
            return (!name.is_empty()).then_some(Function { name, lines });
        }
    }
    None
}

/// A promise: the reader sees code where code is, and nowhere else.
#[test]
fn comments_and_strings_are_no_code() {
    let code = Code::of(
        r##"
// std::fs in a comment
fn one<'a>(x: &'a str) -> char { let _ = "std::fs \" {"; let _ = br#"fs " {"#; '{' }
fn two();
fn three() {
    let c = '\'';
    four::five()
}
mod six;
#[cfg(test)]
mod tests { use std::fs; }
"##,
    );
    let lengths: Vec<_> = code.functions().into_iter().map(|f| (f.name, f.lines)).collect();
    assert_eq!(lengths, [("one".to_owned(), 1), ("three".to_owned(), 4)]);
    assert_eq!(code.modules(), ["six"]);
    assert!(code.declares("three") && !code.declares("five"));
    assert!(code.mentions("fs") && code.mentions("four::five") && !code.mentions("four::fi") && !code.mentions("five!"));
    assert!(!code.without_tests().mentions("fs"));
}

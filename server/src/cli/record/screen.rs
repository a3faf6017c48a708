//! What is safe to show on a terminal: a record's bytes must not be able to move the cursor, set a title or turn the text around.
//!
//! Shown as `\n`, `\x1b`, `\u{9b}`: control characters, invalid UTF-8, and the invisible characters that change the direction of text.

use std::fmt::Write as _;

/// Whether a terminal may act on `character` rather than show it.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `bytes` as text without anything that a terminal acts on.
pub(in crate::cli) fn visible(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                '\0'..='\x7f' if character.is_control() => push_hex(&mut out, u8::try_from(character).unwrap_or_default()),
                _ if is_unsafe(character) => out.extend(character.escape_unicode()),
                _ => out.push(character),
            }
        }
        chunk.invalid().iter().for_each(|byte| push_hex(&mut out, *byte));
    }
    out
}

fn push_hex(out: &mut String, byte: u8) {
    // Writing to a string cannot fail.
    let _ = write!(out, "\\x{byte:02x}");
}

/// The same JSON text without anything that a terminal acts on: such characters stand only within strings, where they can be escaped.
pub(in crate::cli) fn visible_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if is_unsafe(character) && !matches!(character, '\n' | '\r' | '\t') {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(character);
        }
    }
    out
}

/// `text` cut to at most `width` characters, the last of them an ellipsis if something is missing.
pub(in crate::cli) fn cut(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        None => text.to_owned(),
        Some(_) => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A promise: what would control a terminal is shown, and what is harmless stays as it is.
    #[test]
    fn controls_are_shown() {
        assert_eq!(visible(b"\x1b]0;owned\x07\x9b31m\xff\0\n\t\x7f"), r"\x1b]0;owned\x07\x9b31m\xff\x00\n\t\x7f");
        assert_eq!(visible("grün 订单 \u{9b}\u{202e}\u{e0041}".as_bytes()), r"grün 订单 \u{9b}\u{202e}\u{e0041}");
        assert_eq!(visible_json("{\"a\":\"\u{9b}\u{e0041}ü\"}"), r#"{"a":"\u009b\udb40\udc41ü"}"#);
    }

    /// A promise: what is cut says so, and never in the middle of a character.
    #[test]
    fn long_is_cut() {
        assert_eq!((cut("订单组", 3), cut("订单组", 2)), ("订单组".to_owned(), "订…".to_owned()));
    }

    proptest! {
        /// A promise: no bytes whatever leave anything that a terminal acts on.
        #[test]
        fn nothing_gets_through(bytes in prop::collection::vec(any::<u8>(), 0..200), text in any::<String>()) {
            prop_assert!(!visible(&bytes).chars().any(is_unsafe));
            prop_assert!(!visible(text.as_bytes()).chars().any(is_unsafe));
        }

        /// A promise: JSON means the same after it was made safe.
        #[test]
        fn json_means_the_same(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            let safe = visible_json(&json);
            prop_assert!(!safe.chars().any(is_unsafe));
            prop_assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text);
        }
    }
}

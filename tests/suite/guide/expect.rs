//! Whether what a command printed is what the page says: `…` stands for anything within a line, a line `...` for any lines, also none.

/// What is wrong; `None` if nothing is. Empty lines at the end do not count, nor how wide the space before and between columns is.
pub(super) fn complaint(expected: &[String], printed: &str) -> Option<String> {
    let trimmed = |lines: Vec<&str>| {
        let mut lines: Vec<String> = lines.into_iter().map(narrow).collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    };
    let expected = trimmed(expected.iter().map(String::as_str).collect());
    let actual = trimmed(printed.lines().collect());
    if lines_match(&expected, &actual) {
        return None;
    }
    Some(format!("the page says it prints\n{}\nit prints\n{}", expected.join("\n"), actual.join("\n")))
}

/// A line with two spaces between its columns and none at its end. A column is as wide as the address of the node, which varies.
fn narrow(line: &str) -> String {
    line.trim_end().split("  ").map(str::trim_start).filter(|column| !column.is_empty()).collect::<Vec<_>>().join("  ")
}

fn lines_match(expected: &[String], actual: &[String]) -> bool {
    match expected.split_first() {
        None => actual.is_empty(),
        Some((first, rest)) if first == "..." => (0..=actual.len()).any(|skipped| lines_match(rest, &actual[skipped..])),
        Some((first, rest)) => actual.split_first().is_some_and(|(line, others)| line_matches(first, line) && lines_match(rest, others)),
    }
}

fn line_matches(pattern: &str, line: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('…') else { return pattern == line };
    let Some(line) = line.strip_prefix(start) else { return false };
    if !rest.contains('…') {
        return line.ends_with(rest);
    }
    line.char_indices().map(|(at, _)| at).chain([line.len()]).any(|at| line_matches(rest, &line[at..]))
}

/// A promise: a mask stands for what varies and for nothing else.
#[test]
fn masks_hide_only_what_they_stand_for() {
    let ok = |expected: &[&str], printed: &str| {
        complaint(&expected.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>(), printed).is_none()
    };
    assert!(ok(&[], "") && ok(&[], "\n") && ok(&["a"], "a  \n\n") && ok(&["a…c", "…"], "abc\nx"));
    assert!(ok(&["{…,\"b\":…}"], "{\"a\":1,\"b\":2}"));
    assert!(
        ok(&["a", "...", "d"], "a\nb\nc\nd") && ok(&["a", "...", "d"], "a\nd") && ok(&["..."], "") && ok(&["...", "b", "..."], "a\nb\nc")
    );
    for (expected, printed) in [
        (&["a"][..], "b"),
        (&["a"], "a\nb"),
        (&["a", "b"], "a"),
        (&[], "a"),
        (&["a…c"], "abd"),
        (&["a…a"], "a"),
        (&["...", "d"], "a\nd\ne"),
        (&["a…"], "b"),
        (&["a … b"], "a\nb"),
        (&["…"], ""),
    ] {
        assert!(!ok(expected, printed), "{expected:?} {printed:?}");
    }
}

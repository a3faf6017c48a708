//! The command line as a whole: its arguments, its examples, what shells complete.

use super::*;

fn of(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// A promise: the command line is put together without contradictions: no flag means two things, every argument is said what it is, what
/// is required comes before what is not, and what one argument refers to is there. (Clap's own check is empty in a release build.)
#[test]
fn arguments_are_sound() {
    for (verb, command) in verbs() {
        let mut longs = Vec::new();
        let mut shorts = Vec::new();
        let mut has_optional = false;
        let mut names: Vec<&str> =
            command.get_subcommands().flat_map(|verb| std::iter::once(verb.get_name()).chain(verb.get_all_aliases())).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "'{verb}' has two verbs of one name");
        for arg in command.get_arguments() {
            let id = arg.get_id();
            assert!(arg.get_help().is_some(), "'{verb}' does not say what {id} is");
            longs.extend(arg.get_long_and_visible_aliases().into_iter().flatten());
            shorts.extend(arg.get_short_and_visible_aliases().into_iter().flatten());
            for other in command.get_arg_conflicts_with(arg) {
                assert!(command.get_arguments().any(|known| known.get_id() == other.get_id()), "'{verb}' {id} conflicts with nothing");
            }
        }
        let mut positionals: Vec<_> = command.get_positionals().collect();
        positionals.sort_by_key(|arg| arg.get_index());
        for (place, arg) in positionals.iter().enumerate() {
            assert!(!(has_optional && arg.is_required_set()), "'{verb}' requires {} after what may be missing", arg.get_id());
            has_optional |= !arg.is_required_set();
            let takes_several = arg.get_num_args().is_some_and(|count| count.max_values() > 1);
            assert!(!takes_several || place + 1 == positionals.len(), "'{verb}': nothing can follow {}", arg.get_id());
        }
        for (kind, count, distinct) in [
            ("long", longs.len(), longs.iter().collect::<std::collections::BTreeSet<_>>().len()),
            ("short", shorts.len(), shorts.iter().collect::<std::collections::BTreeSet<_>>().len()),
        ] {
            assert_eq!(count, distinct, "'{verb}' has two {kind} flags of one name: {longs:?} {shorts:?}");
        }
    }
}

/// A line of a shell up to its first pipe, redirection or comment, as words.
fn words(line: &str) -> Vec<OsString> {
    let mut words: Vec<String> = Vec::new();
    let mut quote = None;
    let mut is_within = false;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (Some(_), c) => words.last_mut().unwrap().push(c),
            (None, '|' | '>' | '<' | '#' | '&' | ';') => break,
            (None, c) if c.is_whitespace() => is_within = false,
            (None, c) => {
                if !is_within {
                    words.push(String::new());
                    is_within = true;
                }
                if c == '\'' || c == '"' { quote = Some(c) } else { words.last_mut().unwrap().push(c) }
            }
        }
    }
    words.into_iter().map(OsString::from).collect()
}

/// A promise: every verb shows at least one example with the verb's own words in it, and the arguments of every example are taken.
#[test]
fn every_verb_has_examples() {
    let mut lacking = Vec::new();
    for (verb, command) in verbs() {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let own: Vec<&str> = verb.split(' ').filter(|word| !word.is_empty()).collect();
        // What an example does may stand behind it, two spaces apart.
        let example = |line: &'_ str| Some(line[line.find("tidegate ")?..].split("  ").next()?.to_owned());
        let examples: Vec<String> = text.lines().take_while(|line| !line.starts_with("Format")).filter_map(example).collect();
        if !text.contains("Examples:\n") || !examples.iter().any(|line| own.iter().all(|word| line.contains(word))) {
            lacking.push(verb.clone());
        }
        for line in examples.iter().filter(|line| !line.contains(['`', '$', '(', ')'])) {
            let parsed = Arguments::try_parse_from(words(line));
            let error = parsed.err().filter(clap::Error::use_stderr);
            assert!(error.is_none(), "'{verb}': {line}\n{}", error.unwrap());
        }
    }
    assert_eq!(lacking, Vec::<String>::new(), "verbs without examples");
}

/// A promise: wherever a topic is named, a shell offers the topics that there are.
#[test]
fn every_topic_is_completed() {
    let mut lacking = Vec::new();
    for (verb, command) in verbs() {
        for arg in command.get_arguments() {
            let is_topic = arg.get_value_names().is_some_and(|names| names.iter().any(|name| *name == "TOPIC"));
            if is_topic && arg.get::<ArgValueCompleter>().is_none() {
                lacking.push(format!("{verb} {}", arg.get_id()));
            }
        }
    }
    assert_eq!(lacking, Vec::<String>::new(), "topics that are not completed");
}

/// A promise: durations are what they say, and nothing that is none gets through.
#[test]
fn durations() {
    assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
    for wrong in ["", "5", "0s", "-1s", "soon", "99999999999999999999h"] {
        assert!(duration(wrong).is_err(), "{wrong}");
    }
}

/// A promise: a program that asked for JSON is found out even where the rest of its arguments is wrong.
#[test]
fn formats_are_seen_in_wrong_arguments() {
    for words in [&["t", "-o", "json", "--x"][..], &["t", "--output=json"], &["t", "-ojson"], &["t", "-o=json"]] {
        assert_eq!(asked_format(&of(words)), Some(Format::Json), "{words:?}");
    }
    assert_eq!(asked_format(&of(&["t", "--", "-o", "json"])), None);
}

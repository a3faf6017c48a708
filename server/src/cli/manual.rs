//! `man`: pages for `man`, made of the definitions that parse the arguments.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use tidegate_storage::io::{RealIo, write_atomically};

use super::output::Output;
use super::{Arguments, Failure};

/// Variables that no argument is bound to, and what they do.
const VARIABLES: [(&str, &str); 2] = [
    ("NO_COLOR", "No colours, if it is not empty."),
    ("XDG_CONFIG_HOME", "Where contexts are kept: tidegate/contexts.toml in it; ~/.config if it is not set."),
];

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tidegate man | man -l -\n  tidegate man topic create | man -l -\n  tidegate man --dir ~/.local/share/man/man1"
)]
pub(super) struct ManArguments {
    /// Of which verb; of the program itself if none is named
    #[arg(value_name = "VERB", conflicts_with = "dir")]
    verbs: Vec<String>,
    /// Write a page for each verb into this directory, which must exist
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints a page, or writes all of them.
pub(super) fn run(arguments: &ManArguments, output: &Output) -> Result<(), Failure> {
    let mut command = Arguments::command();
    command.build();
    let Some(dir) = &arguments.dir else {
        return output.text(&page(find(&command, &arguments.verbs)?)?);
    };
    let failed = |error: std::io::Error| Failure::Local(format!("{}: {error}", dir.display()));
    let mut left = vec![&command];
    while let Some(verb) = left.pop() {
        let name = Man::new(verb.clone()).get_filename();
        write_atomically(&RealIo, &dir.join(name), page(verb)?.as_bytes()).map_err(failed)?;
        left.extend(verb.get_subcommands());
    }
    output.note(&format!("the pages are in {}", dir.display()));
    Ok(())
}

/// The verb of these words.
fn find<'c>(command: &'c Command, verbs: &[String]) -> Result<&'c Command, Failure> {
    verbs.iter().try_fold(command, |command, word| {
        command.find_subcommand(word).ok_or_else(|| {
            let near = crate::config::nearest(word, command.get_subcommands().map(Command::get_name));
            let hint = near.map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
            Failure::NotFound(format!("there is no verb '{word}'{hint}"))
        })
    })
}

/// A page in man's own language.
fn page(command: &Command) -> Result<String, Failure> {
    let man = Man::new(command.clone()).source(concat!("tidegate ", env!("CARGO_PKG_VERSION"))).manual("Tidegate manual");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut page = String::from_utf8_lossy(&page).into_owned();
    for part in parts(&command.get_after_help().map(ToString::to_string).unwrap_or_default()) {
        section(&mut page, &part.0, &part.1);
    }
    section(&mut page, "ENVIRONMENT", &environment(command));
    Ok(page)
}

/// What stands below the options, by its headings.
fn parts(text: &str) -> Vec<(String, Vec<String>)> {
    let part = |paragraph: &str| {
        let mut lines: Vec<String> = paragraph.lines().map(str::to_owned).collect();
        let head = lines.first().and_then(|line| line.strip_suffix(':')).map(str::to_uppercase);
        match head {
            Some(head) => {
                lines.remove(0);
                (if head == "EXIT CODES" { "EXIT STATUS".to_owned() } else { head }, lines)
            }
            None => ("NOTES".to_owned(), lines),
        }
    };
    text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()).map(part).collect()
}

/// The variables that stand in for flags, and those that nothing else stands for.
fn environment(command: &Command) -> Vec<String> {
    let bound = command.get_arguments().filter_map(|arg| {
        let variable = arg.get_env()?.to_str()?;
        Some(format!("  {variable:<17} as --{}", arg.get_long()?))
    });
    bound.chain(VARIABLES.map(|(name, means)| format!("  {name:<17} {means}"))).collect()
}

/// A section whose lines stay as they are.
fn section(page: &mut String, head: &str, lines: &[String]) {
    // A string takes whatever is written.
    let _ = writeln!(page, ".SH \"{head}\"\n.nf");
    for line in lines {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        let _ = writeln!(page, "{}{line}", if line.starts_with(['.', '\'']) { "\\&" } else { "" });
    }
    page.push_str(".fi\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: a page has its examples under that name, the variables that count, and nothing in a text is taken for man's own language.
    #[test]
    fn pages_have_sections() {
        let mut command = Arguments::command();
        command.build();
        let of = |words: &[&str]| page(find(&command, &words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()).unwrap()).unwrap();
        let first = of(&[]);
        for part in [".SH \"EXAMPLES\"", ".SH \"EXIT STATUS\"", "TIDEGATE_SERVER", "NO_COLOR", "130  Ctrl", ".TH tidegate 1"] {
            assert!(first.contains(part), "{part}\n{first}");
        }
        assert!(of(&["topic", "config", "set"]).contains("tidegate topic config set orders"));
        assert!(!first.contains("EXTRA"));
        assert!(find(&command, &["topc".to_owned()]).is_err());
        let mut text = String::new();
        section(&mut text, "X", &[".TH".to_owned(), r"a\nb-c".to_owned()]);
        assert_eq!(text, ".SH \"X\"\n.nf\n\\&.TH\na\\enb\\-c\n.fi\n");
    }
}

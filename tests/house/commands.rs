//! The command line as docs/commands.md shows it, and command lines in documents, which have to be ones that it takes.

use super::documents::cell;
use super::links::pages;
use clap::{Arg, Command, CommandFactory, Parser};
use pepay_relay::cli::Cli;
use std::fmt::Write;

fn whole() -> Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// An option or argument as it is typed.
fn spelled(arg: &Arg) -> String {
    let names: Vec<String> = arg.get_value_names().into_iter().flatten().map(|name| format!("<{name}>")).collect();
    let takes = arg.get_action().takes_values();
    match arg.get_long() {
        Some(long) if takes => format!("--{long} {}", names.join(" ")),
        Some(long) => format!("--{long}"),
        None => names.join(" "),
    }
}

fn row(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    // A paragraph that is a heading of the next one ends without a full stop.
    let mut text = help.split("\n\n").map(|part| part.trim_end_matches('.')).collect::<Vec<_>>().join(". ");
    if arg.get_action().takes_values() {
        let values: Vec<String> = arg
            .get_possible_values()
            .iter()
            .map(|value| match value.get_help() {
                Some(help) => format!("`{}` ({help})", value.get_name()),
                None => format!("`{}`", value.get_name()),
            })
            .collect();
        if !values.is_empty() {
            write!(text, ". One of: {}", values.join(", ")).unwrap();
        }
        let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        if !defaults.is_empty() {
            write!(text, ". Default: `{}`", defaults.join(" ")).unwrap();
        }
        if let Some(variable) = arg.get_env() {
            write!(text, ". Environment: `{}`", variable.to_string_lossy()).unwrap();
        }
    }
    format!("| `{}` | {} |\n", spelled(arg), cell(&text))
}

/// A table of these options under each of their headings.
fn tables(args: &[&Arg]) -> String {
    let mut text = String::new();
    let mut heading = None;
    for arg in args {
        if heading != Some(arg.get_help_heading()) {
            heading = Some(arg.get_help_heading());
            if let Some(heading) = arg.get_help_heading() {
                write!(text, "\n{heading}:\n").unwrap();
            }
            text.push_str("\n| Option | Meaning |\n|---|---|\n");
        }
        text.push_str(&row(arg));
    }
    text
}

/// The options that every command takes.
pub(super) fn global_options() -> String {
    let whole = whole();
    let args: Vec<&Arg> = whole.get_arguments().filter(|arg| arg.is_global_set()).collect();
    let text = tables(&args);
    text.trim().strip_prefix("Global options:").unwrap_or(&text).to_owned()
}

fn commands_of(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|one| one.get_name() != "help")
}

fn sentence(text: &str) -> String {
    format!("{}.", text.trim_end_matches('.'))
}

/// A command with its options and examples, and the commands of it.
fn section(command: &Command, level: usize, examples_of: Option<&str>, text: &mut String) {
    let name = command.get_bin_name().unwrap_or_default();
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string().replace("Usage: ", "");
    write!(text, "\n{} {name}\n\n{}\n", "#".repeat(level), sentence(&about)).unwrap();
    let examples = command.get_after_help().map(ToString::to_string);
    let is_family = commands_of(command).next().is_some();
    if !is_family {
        write!(text, "\n```\n{usage}\n```\n").unwrap();
        let own = |arg: &&Arg| !arg.is_global_set() && arg.get_id() != "help" && arg.get_id() != "version";
        // What is hidden is between two processes of the program.
        let mut args: Vec<&Arg> = command.get_arguments().filter(own).filter(|arg| !arg.is_hide_set()).collect();
        args.sort_by_key(|arg| arg.get_help_heading());
        text.push_str(&tables(&args));
    }
    if let Some(examples) = examples.as_deref().filter(|examples| Some(*examples) != examples_of) {
        write!(text, "\n```\n{}\n```\n", examples.trim()).unwrap();
    }
    commands_of(command).for_each(|one| section(one, level + 1, examples.as_deref(), text));
}

/// A list of all commands, and a section for each.
pub(super) fn commands() -> String {
    let whole = whole();
    let mut text = "| Command | |\n|---|---|\n".to_owned();
    let line = |command: &Command, text: &mut String| {
        let name = command.get_bin_name().unwrap_or_default();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        writeln!(
            text,
            "| [`{}`](#{}) | {} |",
            name.trim_start_matches("pepay-relay "),
            name.replace(' ', "-"),
            cell(&about)
        )
        .unwrap();
    };
    for command in commands_of(&whole) {
        match commands_of(command).next() {
            None => line(command, &mut text),
            Some(_) => commands_of(command).for_each(|one| line(one, &mut text)),
        }
    }
    commands_of(&whole).for_each(|command| section(command, 3, None, &mut text));
    text
}

/// The words of a command line, as a shell cuts them, up to where another command, a redirection or, after three spaces,
/// the words about it begin.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '|' | '>' | ';' | '&') => {
                // `2>`
                let redirects = letter == '>' && word.as_deref() == Some("2");
                words.extend(word.take().filter(|_| !redirects));
                return words;
            }
            (None, '#') if word.is_none() => return words,
            (None, ' ') => {
                words.extend(word.take());
                if letters.clone().take(2).eq([' ', ' ']) {
                    return words;
                }
            }
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// What documents have in place of a value, and a value for it.
const PLACEHOLDERS: [(&str, &str); 8] = [
    ("TIME", "2h"),
    ("MS", "1768472101250"),
    ("N", "3"),
    ("SHELL", "bash"),
    ("TRANSITION", "placed"),
    ("$step", "placed"),
    ("UUID", "6eae01d8-27f6-42c5-9eb3-a0bb91cf19f9"),
    ("ADDRESS", "127.0.0.1:8788"),
];

/// The command lines in a page: in blocks of code, and between backticks.
fn command_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if inside {
            let at = line.find("pepay-relay ").filter(|at| {
                // Alone, after a prompt or assignments, or at the end of a pipe: not in the middle of a word or text.
                let before = line[..*at].trim_start_matches(['$', '>', ' ']);
                before.is_empty()
                    || before.trim_end().ends_with('|')
                    || before.split_whitespace().all(|word| word.starts_with("PEPAY_RELAY_"))
            });
            lines.extend(at.map(|at| line[at..].to_owned()));
        } else {
            let spans = line.split('`').skip(1).step_by(2);
            lines.extend(spans.filter(|span| span.starts_with("pepay-relay ")).map(str::to_owned));
        }
    }
    lines
}

/// Why the command line is none, if so. Usage, which shows kinds of values, and what a program prints are left out.
fn refused(line: &str) -> Option<String> {
    let is_usage = line.contains("[OPTIONS]") || line.starts_with("pepay-relay COMMAND");
    if is_usage || line.starts_with("pepay-relay is no event") {
        return None;
    }
    // What may be left out is tried as well.
    let words: Vec<String> = words(&line.replace(['[', ']', '…'], ""));
    // A name alone is no line to be typed: `pepay-relay checkout`.
    let mut named = Some(&Cli::command());
    for word in &words[1..] {
        named = named.and_then(|command| command.find_subcommand(word));
    }
    if named.is_some() {
        return None;
    }
    let words = words
        .iter()
        .map(|word| PLACEHOLDERS.iter().find(|(name, _)| name == word).map_or(word.as_str(), |(_, value)| *value));
    let error = Cli::try_parse_from(words).err().filter(|error| error.use_stderr())?;
    Some(format!("{line}: {}", error.to_string().lines().next().unwrap_or_default()))
}

#[test]
fn every_command_line_in_a_document_is_one() {
    let mut tried = 0;
    let mut wrong = Vec::new();
    for (path, text) in pages() {
        for line in command_lines(&text) {
            tried += 1;
            wrong.extend(refused(&line).map(|why| format!("{path}: {why}")));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert!(tried > 100, "only {tried} command lines were found");
}

#[test]
fn a_wrong_command_line_is_found() {
    let page = "Run `pepay-relay check` or `pepay-relay fly`.\n```\n$ A=1 pepay-relay run\n$ PEPAY_RELAY_X=1 pepay-relay tail --from 15m > log\n\
        echo '{}' | pepay-relay webhook send - --url http://a   # sends\nnot pepay-relay run\n```\n";
    let lines = command_lines(page);
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(words("pepay-relay a \"b c\" 'd | e' 2> f"), ["pepay-relay", "a", "b c", "d | e"]);
    assert_eq!(words("pepay-relay a#b # c"), ["pepay-relay", "a#b"]);
    let found: Vec<_> = lines.iter().filter_map(|line| refused(line)).collect();
    assert!(found.len() == 1 && found[0].contains("fly"), "{found:?}");
    assert!(refused("pepay-relay replay --from TIME [--to TIME]").is_none());
    assert!(refused("pepay-relay tail --form 15m").is_some());
}

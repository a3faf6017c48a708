//! The README's first minute: its three lines work word for word, and print what it says they print.

use std::process::Command;

use tidegate_tests::oracle::root;
use tidegate_tests::process::Process;

/// The code blocks of a document, by their language.
fn blocks<'t>(document: &'t str, language: &str) -> Vec<&'t str> {
    let open = format!("```{language}\n");
    document.split(open.as_str()).skip(1).filter_map(|after| after.split_once("```")).map(|(block, _)| block).collect()
}

/// Runs a line in a shell against the node instead of the port that the README names.
fn shell(line: &str, node: &Process) -> serde_json::Value {
    let line = line.replace("http://127.0.0.1:8080", &node.url()).replacen("curl ", "curl -sS ", 1);
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{line} printed {}", String::from_utf8_lossy(&output.stdout)))
}

/// The same but for times and ids, which differ from run to run.
fn without_time(mut value: serde_json::Value) -> serde_json::Value {
    match &mut value {
        serde_json::Value::Object(fields) => {
            fields.retain(|name, _| !matches!(name.as_str(), "timestamp"));
            fields.values_mut().for_each(|field| *field = without_time(field.take()));
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| *item = without_time(item.take())),
        _ => {}
    }
    value
}

/// A promise: the README's lines, the banner's lines and what they print are the same, also the second time.
#[test]
fn the_first_minute_works() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let lines: Vec<&str> = blocks(&readme, "sh")[1].lines().collect();
    assert_eq!(lines, tidegate_server::banner::curl_lines("http://127.0.0.1:8080"), "the banner and the README say the same");
    let printed: Vec<serde_json::Value> = blocks(&readme, "json")[0].lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    let answers: Vec<_> = lines.iter().map(|line| shell(line, &node)).collect();
    assert_eq!(answers[0]["name"], "hello");
    assert_eq!(
        answers[1..].iter().cloned().map(without_time).collect::<Vec<_>>(),
        printed.into_iter().map(without_time).collect::<Vec<_>>()
    );

    node.kill().unwrap();
    let node = Process::start(data.path()).unwrap();
    assert_eq!(shell(lines[2], &node)["records"], answers[2]["records"], "still there after a kill");
    assert_eq!(shell(lines[0], &node)["topic_id"], answers[0]["topic_id"], "made once");
}

//! The panic hook ends the whole process, so that it is tried in a process of its own: this test's binary, started again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

const CHILD: &str = "PANIC_HOOK_CHILD";

/// A promise: a panic in any thread ends the process by SIGABRT, and standard error says which panic it was.
#[test]
fn a_panic_ends_the_process() {
    if std::env::var_os(CHILD).is_some() {
        panic_in_a_thread();
    }
    let exe = std::env::current_exe().unwrap();
    let output = Command::new(exe).args(["--exact", "a_panic_ends_the_process", "--nocapture"]).env(CHILD, "1").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(6), "{stderr}");
    assert!(stderr.contains("thread 'doomed'") && stderr.contains("tests/panic_hook.rs") && stderr.contains("the reason is 7"), "{stderr}");
}

fn panic_in_a_thread() {
    tidegate_server::panic_hook::install();
    let number = 7;
    let thread = std::thread::Builder::new().name("doomed".to_owned()).spawn(move || panic!("the reason is {number}"));
    // Without the hook this join would succeed, and the process would end well.
    drop(thread.unwrap().join());
}

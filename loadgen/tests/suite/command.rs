//! What the command ends with where there is no report, and where the user does not wait for it.

use std::process::{Command, Output};

fn loadgen(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(words).output().unwrap()
}

#[test]
fn a_wrong_command_line_is_no_invalid_report() {
    let wrong: [&[&str]; 3] = [
        &[],
        &["run", "--model", "m", "--rate", "much"],
        &["ladder", "--column", "auto"],
    ];
    for words in wrong {
        let output = loadgen(words);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {text}");
        assert!(text.contains("Usage:") || text.contains("--help"), "{text}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn who_asks_for_help_gets_it() {
    let asked: [(&[&str], &str); 3] = [
        (&["--help"], "Usage:"),
        (&["run", "--help"], "--concurrency"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ];
    for (words, expected) in asked {
        let output = loadgen(words);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}

#[cfg(target_os = "linux")]
mod interrupts {
    use std::{
        io::{BufRead, BufReader},
        process::{Child, Command, Output, Stdio},
    };

    use rustix::process::{Pid, Signal, kill_process};

    use crate::server::Server;

    /// Starts `loadgen`, and returns when it has sent a request, which is never answered.
    async fn stuck(server: &Server, words: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.args(words).args(["--endpoint", &server.endpoint()]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        while server.requests() == 0 {
            assert_eq!(child.try_wait().unwrap(), None);
            tokio::task::yield_now().await;
        }
        child
    }

    fn interrupt(child: &Child) {
        kill_process(Pid::from_child(child), Signal::INT).unwrap();
    }

    async fn output(child: Child) -> Output {
        let waiting = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
        waiting.await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_second_ends_it_at_once() {
        let server = Server::start().await;
        let words = ["run", "--quiet", "--model", "stuck", "--concurrency", "1"];
        // Longer than a person waits, and not as long as a test may hang.
        let limits = ["--warmup", "0s", "--duration", "20s", "--timeout", "20s"];
        let grace = ["--grace", "20s"];
        let mut child = stuck(&server, &[&words[..], &limits, &grace].concat()).await;
        interrupt(&child);
        // It is told that the first was heard: without that, both might count as one.
        let said = child.stderr.take().unwrap();
        let heard = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(said).read_line(&mut line).unwrap();
            line
        });
        let heard = heard.await.unwrap();
        interrupt(&child);
        let output = output(child).await;
        assert_eq!(output.status.code(), Some(130), "{heard}");
        assert!(heard.starts_with("interrupted"), "{heard}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_first_ends_a_ladder_which_then_does_not_pass() {
        let server = Server::start().await;
        let words = ["ladder", "--check", "--column", "auto=stuck"];
        let more = ["--floor", "absent", "--batch", "1", "--requests", "1"];
        let child = stuck(&server, &[&words[..], &more, &["--limit", "20s"]].concat()).await;
        interrupt(&child);
        let output = output(child).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("it was interrupted"), "{text}");
    }
}

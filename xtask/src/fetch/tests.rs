//! The fetch against a package index of our own on 127.0.0.1, whose connections break.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use super::*;

/// 1 MiB in which no two places look alike, and its hash.
const SHA256: &str = "21b9bf484e8bb6ca346d2cd113f24594cadb15c31c3e6ea4bd99897b1e728282";
const WHEEL: Wheel = Wheel {
    package: "surge",
    version: "1.0",
    file: "surge-1.0-py3-none-any.whl",
    bytes: 1 << 20,
    sha256: SHA256,
    platforms: &[],
};

fn contents() -> Vec<u8> {
    (0..1u32 << 18).flat_map(u32::to_le_bytes).collect()
}

/// Serves `index` and `file` until `served` answers were given; tells the ranges asked for.
///
/// The answer numbered by `breaks` ends after half of what was asked.
fn serve(listener: &TcpListener, served: usize, breaks: Option<usize>, ranges: &SyncSender<u64>) {
    let mut files = 0;
    for _ in 0..served {
        let (stream, _) = listener.accept().unwrap();
        let (path, from) = read_request(&stream);
        if path.ends_with(".whl") {
            ranges.send(from).unwrap();
            let whole = contents();
            let rest = &whole[usize::try_from(from).unwrap()..];
            let sent = if breaks == Some(files) {
                rest.len() / 2
            } else {
                rest.len()
            };
            let status = if from == 0 {
                "200 OK"
            } else {
                "206 Partial Content"
            };
            answer(
                stream,
                status,
                "application/octet-stream",
                rest.len(),
                &rest[..sent],
            );
            files += 1;
        } else {
            let page = format!("<a href=\"/files/{0}\">{0}</a>", WHEEL.file);
            answer(stream, "200 OK", "text/html", page.len(), page.as_bytes());
        }
    }
}

fn read_request(stream: &TcpStream) -> (String, u64) {
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let request = lines.next().unwrap();
    let path = request.split(' ').nth(1).unwrap().to_owned();
    let mut from = 0;
    for line in lines.take_while(|line| !line.is_empty()) {
        if let Some(range) = line.to_lowercase().strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap();
        }
    }
    (path, from)
}

fn answer(mut stream: TcpStream, status: &str, kind: &str, length: usize, body: &[u8]) {
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    )
    .unwrap();
    stream.write_all(body).unwrap();
}

/// A fetcher whose pip looks at `index` alone.
fn run(root: &Path, index: SocketAddr, sha256: &'static str) -> Result<Outcome> {
    let workspace = Workspace::at(root);
    let interrupt = Interrupt::default();
    let fetcher = Fetcher::new(&workspace, &interrupt).unwrap();
    let mut program = fetcher.program("fetch.py");
    program.args([WHEEL.package, WHEEL.version, WHEEL.file]);
    program.arg(WHEEL.bytes.to_string()).arg(sha256).arg(root);
    program.env("PIP_INDEX_URL", format!("http://{index}/simple"));
    program
        .env("PIP_CONFIG_FILE", "/dev/null")
        .env_remove("PIP_EXTRA_INDEX_URL");
    program
        .env("PIP_NO_CACHE_DIR", "1")
        .env("PIP_RETRIES", "0")
        .env("NO_PROXY", "127.0.0.1");
    fetcher.follow(&mut program, "surge")
}

fn index(served: usize, breaks: Option<usize>) -> (SocketAddr, Receiver<u64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, ranges) = sync_channel(8);
    thread::spawn(move || serve(&listener, served, breaks, &sender));
    (address, ranges)
}

#[test]
fn a_broken_connection_is_resumed_where_it_broke() {
    let root = tempfile::tempdir().unwrap();
    let (address, ranges) = index(3, Some(0));
    assert_eq!(run(root.path(), address, SHA256).unwrap(), Outcome::Done);
    assert_eq!(ranges.iter().collect::<Vec<_>>(), [0, 1 << 19]);
    assert_eq!(fs::read(root.path().join(WHEEL.file)).unwrap(), contents());
}

#[test]
fn the_rest_of_an_earlier_run_is_resumed() {
    let root = tempfile::tempdir().unwrap();
    let part = root.path().join(format!("{}.part", WHEEL.file));
    fs::write(&part, &contents()[..1000]).unwrap();
    let (address, ranges) = index(2, None);
    assert_eq!(run(root.path(), address, SHA256).unwrap(), Outcome::Done);
    assert_eq!(ranges.iter().collect::<Vec<_>>(), [1000]);
    assert_eq!(fs::read(root.path().join(WHEEL.file)).unwrap(), contents());
    assert!(!part.exists());
}

#[test]
fn a_file_with_another_hash_is_refused_and_removed() {
    let root = tempfile::tempdir().unwrap();
    let (address, _ranges) = index(2, None);
    let error = run(root.path(), address, "00").unwrap_err().to_string();
    assert!(error.contains("expected 00"), "{error}");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn an_index_out_of_reach_is_named_with_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = run(root.path(), address, SHA256).unwrap_err().to_string();
    assert!(
        error.contains(&format!("not found at http://{address}/simple")),
        "{error}"
    );
    assert!(error.contains("python3 -m pip config list"), "{error}");
}

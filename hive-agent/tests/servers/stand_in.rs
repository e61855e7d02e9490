//! Looks like an inference server to whoever reads `/proc`, and answers like one on `--port`.
//! Tests start it with the arguments of the real ones, `argv[0]` included. It ends with its
//! input.
//!
//! `STAND_IN_CHILDREN` and `STAND_IN_GRANDCHILDREN` hold command lines, one a line, of which
//! each is started with a child, or with the first child, as its parent. With `STAND_IN_SILENT`
//! it listens and never answers.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::{env, thread};

const METRICS: &str = "# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine=\"0\",model_name=\"a } b\"} 1.0
vllm:num_requests_running{engine=\"1\",model_name=\"a } b\"} 1.0
vllm:num_requests_waiting{engine=\"0\"} 3
vllm:kv_cache_usage_perc{engine=\"0\"} 0.25
llamacpp:requests_processing 2
llamacpp:requests_deferred 3
sglang:num_running_reqs{tp_rank=\"0\"} 2
sglang:num_running_reqs{tp_rank=\"1\"} 2
sglang:num_queue_reqs 3
sglang:token_usage 0.25
tgi_batch_current_size 2
tgi_queue_size 3
";
const SLOTS: &str = r#"[{"id":0,"is_processing":true},{"id":1,"is_processing":false}]"#;

fn main() -> io::Result<()> {
    let arguments: Vec<String> =
        env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    if let Some(port) = arguments.iter().position(|argument| argument == "--port") {
        let port: u16 = arguments[port + 1].parse().map_err(io::Error::other)?;
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        thread::spawn(move || serve(&listener));
    }
    let mut children = Vec::new();
    let grandchildren = env::var("STAND_IN_GRANDCHILDREN").unwrap_or_default();
    for (index, line) in env::var("STAND_IN_CHILDREN").unwrap_or_default().lines().enumerate() {
        let mut words = line.split(' ');
        let mut command = Command::new(env::current_exe()?);
        command.arg0(words.next().unwrap_or_default()).args(words).stdin(Stdio::piped());
        command.env_remove("STAND_IN_GRANDCHILDREN").env_remove("STAND_IN_CHILDREN");
        if index == 0 {
            command.env("STAND_IN_CHILDREN", &grandchildren);
        }
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
        BufReader::new(stdout).read_line(&mut String::new())?;
        children.push(child);
    }
    println!("ready");
    io::stdin().read_to_end(&mut Vec::new())?;
    for child in &mut children {
        drop(child.stdin.take());
        child.wait()?;
    }
    Ok(())
}

fn serve(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        thread::spawn(move || -> io::Result<()> {
            let mut reader = BufReader::new(stream.try_clone()?);
            let mut stream = stream;
            loop {
                let mut first = String::new();
                if reader.read_line(&mut first)? == 0 {
                    return Ok(());
                }
                let mut line = String::new();
                while reader.read_line(&mut line)? > 2 {
                    line.clear();
                }
                if env::var_os("STAND_IN_SILENT").is_some() {
                    continue;
                }
                let (status, body) = match first.split(' ').nth(1) {
                    Some("/metrics") => ("200 OK", METRICS),
                    Some("/slots") => ("200 OK", SLOTS),
                    _ => ("404 Not Found", ""),
                };
                let length = body.len();
                write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}")?;
            }
        });
    }
}

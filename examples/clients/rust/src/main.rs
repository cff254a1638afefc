//! Runs an agent and prints what it says: run-agent AGENT INPUT [SECONDS]
//! The server is SLUICE_ADDR or 127.0.0.1:50051; SLUICE_CA, a PEM file, turns TLS on. Exit status: 0 done, 1 error, 130 cancelled by Ctrl-C.
use std::io::Write;
use std::time::Duration;

use run_agent::{agent_runtime_client::AgentRuntimeClient, stream_event::Event, ExecuteRequest};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt;

async fn connect() -> Result<Channel, Box<dyn std::error::Error>> {
    let address = std::env::var("SLUICE_ADDR").unwrap_or("127.0.0.1:50051".into());
    let endpoint = match std::env::var("SLUICE_CA") {
        Ok(path) => {
            let authorities = Certificate::from_pem(std::fs::read(path)?);
            let tls = ClientTlsConfig::new().ca_certificate(authorities);
            Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?
        }
        Err(_) => Endpoint::from_shared(format!("http://{address}"))?,
    };
    // The server allows a PING every 10 s.
    Ok(endpoint.http2_keep_alive_interval(Duration::from_secs(30)).connect().await?)
}

/// Prints the text of a run. `has_run` becomes true with its first event.
async fn run(agent: String, input: String, seconds: f64, has_run: &mut bool) -> Result<(), Status> {
    let channel = connect().await.map_err(|e| Status::unavailable(e.to_string()))?;
    let mut client = AgentRuntimeClient::new(channel).max_decoding_message_size(5 << 20); // an event has at most 4 MiB
    let mut request = Request::new(ExecuteRequest { agent, input, ..Default::default() });
    request.set_timeout(Duration::from_secs_f64(seconds));
    let mut stream = client.execute_streaming(request).await?.into_inner();
    while let Some(message) = stream.message().await? {
        *has_run = true;
        match message.event {
            Some(Event::TextDelta(text)) => {
                print!("{}", text.delta);
                let _ = std::io::stdout().flush();
            }
            Some(Event::ToolCallStart(call)) => eprintln!("[{}]", call.tool_name),
            Some(Event::Done(done)) => eprintln!("\n{} tokens", done.output_tokens),
            _ => {}
        }
    }
    Ok(())
}

/// ErrorInfo of an error: the reason, and whether a run had started. The client's own errors have none.
fn reason_of(error: &Status, has_run: bool) -> (String, bool) {
    match error.get_details_error_info() {
        Some(info) => (info.reason, info.metadata.get("run_started").is_some_and(|value| value == "true")),
        None => ("-".into(), has_run),
    }
}

// One thread: the task of the connection writes the reset when main() yields to it.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = std::env::args().collect();
    if words.len() < 3 {
        eprintln!("usage: run-agent AGENT INPUT [SECONDS]");
        std::process::exit(2);
    }
    let seconds = words.get(3).and_then(|word| word.parse().ok()).unwrap_or(60.0);
    let mut has_run = false;
    let result = tokio::select! {
        result = run(words[1].clone(), words[2].clone(), seconds, &mut has_run) => result,
        // The stream is dropped, which resets it, and so cancels the run.
        _ = tokio::signal::ctrl_c() => Err(Status::cancelled("Ctrl-C")),
    };
    if let Err(error) = result {
        let (reason, has_run) = reason_of(&error, has_run);
        let state = if has_run { "the run had started" } else { "no run was started" };
        eprintln!("\n{:?} {reason} ({state}): {}", error.code(), error.message());
        tokio::task::yield_now().await;
        std::process::exit(if error.code() == tonic::Code::Cancelled { 130 } else { 1 });
    }
}

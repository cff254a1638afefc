//! The snippets of docs/migration.md, run one after the other.
use std::collections::HashMap;
use std::time::Duration;

use run_agent::{agent_runtime_client::AgentRuntimeClient, stream_event::Event};
use run_agent::{Context, ExecuteRequest, Message, OnDisconnect, Role, RunOptions, StreamEvent};
use tokio::sync::{mpsc, oneshot};
use tonic::{transport::Channel, Request, Status, Streaming};

type Client = AgentRuntimeClient<Channel>;

async fn basic(client: &mut Client) -> Result<(), Status> {
    let request = ExecuteRequest { agent: "echo".into(), input: "input".into(), ..Default::default() };
    let mut events = client.execute_streaming(request).await?.into_inner();
    while let Some(message) = events.message().await? {
        match message.event {
            Some(Event::TextDelta(text)) => print!("{}", text.delta),
            Some(Event::Done(_)) => println!("\n✓ Complete"),
            _ => {}
        }
    }
    Ok(())
}

async fn with_context(client: &mut Client) -> Result<Streaming<StreamEvent>, Status> {
    let said = |role: Role, content: &str| Message { role: role.into(), content: content.into(), ..Default::default() };
    let context = Context {
        messages: vec![said(Role::User, "My name is Ada."), said(Role::Assistant, "Hello, Ada.")],
        state_json: HashMap::new(),
    };
    let request = ExecuteRequest {
        agent: "echo".into(),
        input: "What is my name?".into(),
        context: Some(context),
        ..Default::default()
    };
    Ok(client.execute_streaming(request).await?.into_inner())
}

async fn cancellable(client: &mut Client, mut cancel: oneshot::Receiver<()>) -> Result<(), Status> {
    let mut request = Request::new(ExecuteRequest {
        agent: "load".into(),
        input: "hang=true".into(),
        ..Default::default()
    });
    request.set_timeout(Duration::from_secs(60));
    let mut events = client.execute_streaming(request).await?.into_inner();
    loop {
        tokio::select! {
            message = events.message() => match message? {
                Some(_event) => {}
                None => return Ok(()),
            },
            _ = &mut cancel => return Ok(()), // dropping `events` resets the stream: the run is cancelled
        }
    }
}

fn options() -> RunOptions {
    RunOptions {
        buffer_events: Some(100),
        on_disconnect: OnDisconnect::DetachFor.into(),
        detach_ttl_ms: 30_000,
        ..Default::default()
    }
}

async fn into_channel(mut events: Streaming<StreamEvent>, tx: mpsc::Sender<Event>) -> Result<(), Status> {
    while let Some(message) = events.message().await? {
        if let Some(event) = message.event {
            if tx.send(event).await.is_err() {
                break; // the receiver is gone: the stream is dropped, and the run is cancelled
            }
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::var("SLUICE_ADDR").unwrap_or("127.0.0.1:50051".into());
    let mut client = AgentRuntimeClient::connect(format!("http://{address}")).await?;
    basic(&mut client).await?;

    let (tx, mut rx) = mpsc::channel(100);
    let reader = tokio::spawn(into_channel(with_context(&mut client).await?, tx));
    let mut content = String::new();
    while let Some(event) = rx.recv().await {
        if let Event::Done(done) = event {
            content = done.content;
        }
    }
    reader.await??;
    println!("with context: {content}");

    let (cancel, cancelled) = oneshot::channel();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let _ = cancel.send(());
    });
    cancellable(&mut client, cancelled).await?;
    println!("cancelled");

    let request = ExecuteRequest { agent: "echo".into(), input: "x".into(), options: Some(options()), ..Default::default() };
    let mut events = client.execute_streaming(request).await?.into_inner();
    let mut n = 0;
    while events.message().await?.is_some() {
        n += 1;
    }
    println!("with options: {n} events");
    Ok(())
}

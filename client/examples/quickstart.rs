//! The README's example: one call, then many requests on one stream, to the model `mlp`.

use forebay_client::{Client, Request, StreamOptions, tensor};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let endpoint = std::env::args().nth(1);
    let client = Client::connect(endpoint.as_deref().unwrap_or("http://127.0.0.1:8001")).await?;
    let image = tensor::from_slice("INPUT__0", &[0.5f32; 784], [1, 784])?;
    let reply = client
        .infer(Request::new("mlp").with_input(image.clone()))
        .await?;
    anyhow::ensure!(reply.output("OUTPUT__0").is_some());

    let session = client.stream(StreamOptions::default()).await?;
    let mut tickets = Vec::new();
    for _ in 0..100 {
        // Waits while the stream has as many bytes in flight as it may have.
        tickets.push(
            session
                .submit(Request::new("mlp").with_input(image.clone()))
                .await?,
        );
    }
    for ticket in tickets {
        let timings = ticket.await?.timings();
        assert!(timings.done >= timings.sent);
    }
    session.close().await?;
    Ok(())
}

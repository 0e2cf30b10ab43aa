//! Many clients, and the order in which models take turns.

use forebay_client::StreamOptions;
use tokio::task::JoinSet;

use super::*;

/// Draws from 0 to below `bound`, the same for the same state.
fn draw(state: &mut u64, bound: usize) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    usize::try_from(*state >> 33).unwrap() % bound
}

async fn ask_at_random(client: Client, seed: u64, requests: usize) {
    let mut state = seed;
    for number in 0..requests {
        let value = f32::from(u16::try_from(number).unwrap());
        ask(&client, draw(&mut state, 5), value).await.unwrap();
    }
}

#[tokio::test]
async fn five_models_answer_in_the_memory_of_two() {
    const KIB: u64 = 2 * 1024 + 100;
    let server = within_kib(models(5), KIB).start().await;
    let client = server.client().await;
    let mut clients = JoinSet::new();
    for seed in 0..6 {
        clients.spawn(ask_at_random(client.clone(), seed, 40));
    }
    clients.join_all().await;
    let weights = server.registry().weights();
    assert!(weights.peak <= KIB * 1024, "{weights:?}");
    assert_eq!(weights.bytes, 2 << 20, "{weights:?}");
    let reports: Vec<_> = (0..5).map(|index| residency(&server, index)).collect();
    println!("{weights:?}\n{reports:#?}");
    assert!(reports.iter().all(|report| report.brought_in_count > 0));
    let all: u64 = (0..5)
        .map(|index| server.model(&format!("m{index}")).report().inference_count)
        .sum();
    assert_eq!(all, 240);
    server.stop().await;
}

#[tokio::test]
async fn models_that_are_always_busy_take_turns() {
    // Passes take so long that requests are always there: a model that is idle for a moment would go.
    let server = within_kib(models(3), 1100)
        .with_simulated(Duration::ZERO, Duration::from_millis(10), Duration::ZERO)
        .with_config(|config| config.registry.residency_turn = Duration::from_millis(50))
        .start()
        .await;
    let client = server.client().await;
    let mut streams = JoinSet::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for index in 0..3 {
        let options = StreamOptions::default().with_requests_in_flight(16);
        let session = within(client.stream(options)).await.unwrap();
        let stopped = stopped.clone();
        streams.spawn(async move {
            let mut tickets = std::collections::VecDeque::new();
            // Never without a request, as far as the model can see.
            while !*stopped.borrow() {
                tickets.push_back(within(session.submit(request(index, 1.0))).await.unwrap());
                if tickets.len() >= 16 {
                    let reply = within(tickets.pop_front().unwrap()).await.unwrap();
                    check(&reply, index, 1.0);
                }
            }
            for ticket in tickets {
                check(&within(ticket).await.unwrap(), index, 1.0);
            }
            within(session.close()).await.unwrap();
        });
    }
    let came = |index| residency(&server, index).brought_in_count;
    forebay_tests::harness::until(|| (0..3).all(|index| came(index) >= 3)).await;
    stop.send_replace(true);
    streams.join_all().await;
    let weights = server.registry().weights();
    assert!(weights.peak <= 1100 << 10, "{weights:?}");
    server.stop().await;
}

#[tokio::test]
async fn at_shutdown_those_that_wait_for_weights_are_answered() {
    let server = within_kib(models(5), 1100)
        .with_simulated(Duration::ZERO, Duration::from_millis(20), Duration::ZERO)
        .start()
        .await;
    let client = server.client().await;
    let options = StreamOptions::default().with_requests_in_flight(64);
    let session = within(client.stream(options)).await.unwrap();
    let mut tickets = Vec::new();
    for number in 0..60 {
        let index = number % 5;
        tickets.push((
            index,
            within(session.submit(request(index, 1.0))).await.unwrap(),
        ));
    }
    // The last that was sent is there.
    let last = server.model("m4");
    forebay_tests::harness::until(|| {
        let answered = last.report().inference_count;
        usize::try_from(answered).unwrap() + last.scheduler.len() == 12
    })
    .await;
    let waiting = |index| server.model(&format!("m{index}")).scheduler.len();
    let out = (0..5).filter(|&index| !residency(&server, index).resident && waiting(index) > 0);
    assert!(out.count() > 0, "nobody waits for weights");
    server.begin_shutdown();
    for (index, ticket) in tickets {
        check(&within(ticket).await.unwrap(), index, 1.0);
    }
    let registry = server.model("m0");
    server.stop().await;
    assert_eq!(registry.report().inference_count, 12);
}

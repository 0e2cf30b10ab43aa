//! What Ctrl-C does. As long as nothing is measured it ends the process, as it ends others. Once
//! [`asked`] was called, the first ends what is measured, so that there is a report of what is there,
//! and the second ends the process, whatever that is doing then.

use std::{
    future,
    io::{self, Write},
    process, thread,
};

use tokio::{
    runtime,
    signal::{
        self,
        unix::{Signal, SignalKind},
    },
    sync::oneshot,
};

/// Exit status after a second Ctrl-C, as shells have it for the first.
const INTERRUPTED: i32 = 130;

/// Listens from now on, and resolves when the user asks to stop. Who asks twice ends the process, also
/// when this was dropped in between.
///
/// # Panics
/// Outside of a runtime.
pub fn asked() -> impl Future<Output = ()> {
    let listening = listen();
    async move {
        let heard = match listening {
            Ok(heard) => heard.await.is_ok(),
            Err(_) => false,
        };
        // Nobody counts then: each is the first.
        if !heard && signal::ctrl_c().await.is_err() {
            future::pending::<()>().await;
        }
    }
}

/// Starts to count, and returns what tells of the first.
fn listen() -> io::Result<oneshot::Receiver<()>> {
    let interrupts = signal::unix::signal(SignalKind::interrupt())?;
    let (first, heard) = oneshot::channel();
    let counting = move || {
        // Of its own: the caller's does nothing while a report is written.
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(count(interrupts, first));
        io::Result::Ok(())
    };
    thread::Builder::new()
        .name("lg-interrupts".to_owned())
        .spawn(counting)?;
    Ok(heard)
}

async fn count(mut interrupts: Signal, first: oneshot::Sender<()>) {
    interrupts.recv().await;
    // With stderr gone, nobody reads it.
    let _ = writeln!(
        io::stderr(),
        "interrupted: what is there is reported once requests in flight have ended, or --grace has; interrupt again to end at once"
    );
    // Gone where nothing is measured any more.
    let _ = first.send(());
    interrupts.recv().await;
    process::exit(INTERRUPTED);
}

//! The command line of `forebay`.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::{net::TcpSocket, signal::unix};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, Overrides},
    device::{self, Devices},
    memory::Pool,
    registry,
    repository::{ModelEntry, Report, Repository, Tried},
    server::{self, Server},
    telemetry::Telemetry,
    torch, transport,
};

/// Exit status after a second signal, as shells have it for Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Exit status after any other error.
const FAILED: u8 = 1;

/// Exit status after a device has failed, where the configuration says to end then: that of an
/// internal error in `sysexits.h`, which nothing else here has.
const DEVICE_FAILED: u8 = 70;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// How long the model that is loaded when a signal comes has to get ready, so that it can be closed.
const LOAD_PATIENCE: Duration = Duration::from_secs(3);

/// How long the last spans and figures may take to be exported at the end.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// Serves PyTorch models over gRPC (Open Inference Protocol, with Triton's extensions).
#[derive(Debug, Parser)]
#[command(name = "forebay", version)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the models of a repository until SIGTERM or Ctrl-C.
    Serve {
        /// The folder of models, in Triton's layout.
        #[arg(long, value_name = "DIR")]
        model_repository: Option<PathBuf>,
        /// A TOML file; the environment (FOREBAY__SECTION__KEY) and flags override it.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Address and port; port 0 takes a free one. [default: 127.0.0.1:8001]
        #[arg(long, value_name = "ADDR")]
        listen: Option<SocketAddr>,
    },
    /// Say for each model of a repository what is wrong with it, and how to mend it.
    Check {
        /// The folder of models, in Triton's layout.
        #[arg(long, value_name = "DIR")]
        model_repository: PathBuf,
        /// A TOML file, whose devices the models are tried on; the environment
        /// (FOREBAY__SECTION__KEY) overrides it.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// List what models can run on here, and say why there is no accelerator.
    Devices {
        /// A TOML file; the environment (FOREBAY__SECTION__KEY) overrides it.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// Runs a command.
///
/// # Errors
/// What went wrong, with what was being done.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Serve {
            model_repository,
            config,
            listen,
        } => {
            let overrides = Overrides {
                listen,
                model_repository,
            };
            let config = Config::read(config.as_deref(), overrides)?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .thread_name("fb-async")
                .enable_all()
                .build()
                .context("start the async runtime")?;
            let status = runtime.block_on(serve(config)).unwrap_or_else(|error| {
                tell(&error);
                FAILED
            });
            // A pass that was not waited for still runs, or a device is broken: libraries' destructors
            // would do harm, and nothing needs them.
            torch::leave(status)
        }
        Command::Check {
            model_repository,
            config,
        } => check(&model_repository, config.as_deref()),
        Command::Devices { config } => devices(config.as_deref()),
    }
}

/// Tells people why a command failed.
pub fn tell(error: &anyhow::Error) {
    // Nothing is left to be done where standard error is closed.
    let _closed = writeln!(io::stderr(), "forebay: {error:#}");
}

async fn serve(mut config: Config) -> anyhow::Result<u8> {
    let telemetry = Telemetry::install(&config.telemetry)?;
    let connections = config.transport.max_connections;
    config.transport.max_connections = transport::with_files_for(connections);
    // Caught from here on, so that a signal while models load ends the server too, and soon.
    let shutdown = CancellationToken::new();
    let signals = signals(shutdown.clone()).context("listen for signals")?;
    let signals = tokio::spawn(signals);
    tracing::info!(config = ?config, "starting");
    let address = config.listen;
    // Bound now, so that a port where somebody listens is told of before models load; nobody can connect
    // before it listens.
    let listening = || format!("listen on {address}");
    let socket = bind(address).with_context(listening)?;
    let mut load = Box::pin(Server::load(config, telemetry.tracer(), shutdown.clone()));
    let server = tokio::select! {
        server = &mut load => server?,
        () = shutdown.cancelled() => match tokio::time::timeout(LOAD_PATIENCE, &mut load).await {
            Ok(server) => server?,
            Err(_) => {
                tracing::warn!("stopped while a model was loaded, which did not end in time");
                // It would wait for its threads.
                std::mem::forget(load);
                return Ok(0);
            }
        },
    };
    server.observe(&telemetry.metrics());
    let listener = socket.listen(BACKLOG).with_context(listening)?;
    let address = listener
        .local_addr()
        .context("read the address listened on")?;
    if !shutdown.is_cancelled() {
        announce(address).context("write to standard output")?;
    }
    let status = match server.serve(listener, shutdown).await {
        Ok(drained) => {
            tracing::info!(?drained, "stopped");
            0
        }
        Err(error @ server::Error::DeviceFailed { .. }) => {
            tracing::error!(%error, "stopped");
            DEVICE_FAILED
        }
        Err(error) => return Err(error.into()),
    };
    signals.abort();
    let flush = move || telemetry.shutdown(FLUSH_PATIENCE);
    tokio::task::spawn_blocking(flush)
        .await
        .context("export the last spans and figures")?;
    Ok(status)
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // As listeners of the standard library do: a server that was just ended leaves its port for a while.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Says where the server listens, in a form that scripts can wait for.
fn announce(address: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "listening on {address}")?;
    out.flush()
}

fn signals(shutdown: CancellationToken) -> io::Result<impl Future<Output = ()>> {
    let mut terminate = unix::signal(unix::SignalKind::terminate())?;
    let mut interrupt = unix::signal(unix::SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: finishing what was accepted"),
            _ = interrupt.recv() => tracing::info!("interrupted: finishing what was accepted"),
        }
        shutdown.cancel();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("signalled again: ending at once");
        torch::leave(INTERRUPTED);
    })
}

fn check(dir: &Path, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let overrides = Overrides {
        model_repository: Some(dir.to_owned()),
        ..Overrides::default()
    };
    let config = Config::read(config, overrides)?;
    let scanned = Repository::open(dir)?.scan()?;
    let devices = Devices::open(&config.device, Pool::new(0))?;
    let load = |entry: &ModelEntry| {
        let mut tried = Tried::default();
        for version in &entry.versions {
            let of_version = |text: String| format!("version {}: {text}", version.number);
            match registry::try_load(entry, version, &devices) {
                Ok(facts) => {
                    let facts = facts
                        .into_iter()
                        .map(|(name, fact)| format!("{name}: {fact}"));
                    tried.notes.extend(facts.map(of_version));
                }
                Err(error) => tried.faults.push(of_version(error.to_string())),
            }
        }
        tried
    };
    let report = Report::new(&scanned, load);
    write!(io::stdout().lock(), "{report}").context("write to standard output")?;
    Ok(if report.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn devices(config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let overrides = Overrides {
        // Not needed here, and its absence would be a fault.
        model_repository: Some(PathBuf::from(".")),
        ..Overrides::default()
    };
    let config = Config::read(config, overrides)?;
    let inventory = device::inventory(&config.device);
    write!(io::stdout().lock(), "{inventory}").context("write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

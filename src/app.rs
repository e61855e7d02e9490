//! All wiring: builds the parts, starts the tasks, orders the shutdown.
//!
//! Invariant: the shutdown has an order. First nothing new is accepted and the streams end,
//! then nobody reads any more, then the writer drains its queue and closes the file. Every task
//! is awaited.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hive_contract::HiveId;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Answers, ApiState, Bodies, Exports};
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::counters::Counters;
use crate::estimates::Estimates;
use crate::feed::Feed;
use crate::feed::fleet::Fleet;
use crate::history::open::OpenError;
use crate::history::reader::ReadError;
use crate::history::warm::WarmError;
use crate::history::writer::{self, WriterTask};
use crate::history::{Files, Reader, Writer, events};
use crate::ingest::Ingest;
use crate::liveness;
use crate::registry::HiveRegistry;
use crate::server;

/// Why the queen could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The newest readings cannot be read.
    #[error(transparent)]
    Warm(#[from] WarmError),
    /// The history cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; is another queen running, or is the port taken? (--bind)")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A queen that is bound and ready to run.
pub struct App {
    listener: TcpListener,
    reader: Reader,
    estimates: Estimates,
    fleet: Fleet,
    address: SocketAddr,
    router: axum::Router,
    writer: WriterTask,
    /// Keeps the writer from ending as long as anybody reads: whoever closes the file last
    /// writes the log back into it, and a reader cannot.
    hold: Writer,
    local_hive: Option<hive_agent::config::Config>,
    liveness: Liveness,
    hives: usize,
    shutdown: CancellationToken,
}

/// What is needed to tell when hives come and go.
struct Liveness {
    registry: HiveRegistry,
    writer: Writer,
    clock: Clock,
    online: HashSet<HiveId>,
}

impl App {
    /// Opens the database, binds the address, and wires the parts.
    ///
    /// # Errors
    /// The database or the address cannot be used.
    pub async fn build(config: &Config, shutdown: CancellationToken) -> Result<Self, StartError> {
        let clock = Clock::system();
        let database = crate::history::open(&config.db, config.durability).await?;
        let bind_error = |source| StartError::Bind { address: config.bind, source };
        let listener = TcpListener::bind(config.bind).await.map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;

        let feed = Feed::new(config.max_streams);
        let counters = Counters::default();
        let registry = HiveRegistry::new(config.max_hives, config.liveness, clock);
        let (writer, writer_task, readings) = writer::prepare(
            database,
            config.seal_after,
            config.limits,
            feed.clone(),
            counters.clone(),
            clock,
        )
        .await?;
        let hives = readings.len();
        for reading in readings {
            let received = clock::moment(reading.id);
            if registry.prime(reading.heartbeat.clone(), received).is_ok() {
                feed.prime(reading.id, reading.heartbeat);
            }
        }
        let ingest = Ingest::new(
            registry.clone(),
            writer.clone(),
            feed.clone(),
            counters.clone(),
            clock,
            config.limits.raw,
        );
        let reader = Reader::new(&config.db, config.query_timeout);
        let online = events::hives_online(&reader).await?;
        let liveness =
            Liveness { registry: registry.clone(), writer: writer.clone(), clock, online };
        let estimates = Estimates::default();
        let fleet = Fleet::new(registry.clone(), feed.clone(), clock);
        let shutdown_streams = shutdown.clone();
        let state = ApiState {
            ingest,
            registry,
            estimates: estimates.clone(),
            feed,
            fleet: fleet.clone(),
            writer: writer.clone(),
            reader: reader.clone(),
            exports: Exports::default(),
            bodies: Bodies::default(),
            answers: Answers::default(),
            counters,
            files: Files::of(&config.db),
            clock,
            shutdown: shutdown_streams,
        };
        let local_hive = config.local_hive.then(|| local_hive(address));
        Ok(Self {
            reader,
            estimates,
            fleet,
            listener,
            address,
            router: api::router(state),
            writer: writer_task,
            hold: writer,
            local_hive,
            liveness,
            hives,
            shutdown,
        })
    }

    /// Where she listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hives known from before the start.
    #[must_use]
    pub fn hives(&self) -> usize {
        self.hives
    }

    /// The name of this machine's hive, if it is collected in this process.
    #[must_use]
    pub fn local_hive(&self) -> Option<&str> {
        self.local_hive.as_ref().map(|config| config.hive_id.as_str())
    }

    /// Serves until the shutdown token is cancelled, then ends everything in order.
    pub async fn run(self) {
        let runtime = tokio::runtime::Handle::current();
        // A thread of its own: SQLite works on it.
        let writer = std::thread::spawn(move || runtime.block_on(self.writer.run()));
        let collector = self.local_hive.map(|config| {
            let stop = self.shutdown.clone();
            tokio::spawn(async move {
                if let Err(error) = hive_agent::agent::run(config, stop).await {
                    tracing::error!(error = %error, "this machine is not collected");
                }
            })
        });
        let Liveness { registry, writer: records, clock, online } = self.liveness;
        let stop = self.shutdown.clone();
        let liveness = tokio::spawn(liveness::watch(registry, records, clock, online, stop));
        let stop = self.shutdown.clone();
        let learner = tokio::spawn(self.estimates.keep_fresh(self.reader.clone(), clock, stop));
        let stop = self.shutdown.clone();
        let fleet = tokio::spawn(self.fleet.publish(stop));
        // The router goes with the server, and with it all that can be written.
        server::serve(self.listener, self.router, self.shutdown).await;
        if let Some(collector) = collector {
            let _ = collector.await;
        }
        let _ = liveness.await;
        let _ = learner.await;
        let _ = fleet.await;
        self.reader.close().await;
        drop(self.hold);
        let _ = tokio::task::spawn_blocking(|| writer.join()).await;
    }
}

/// The collector of this machine posts over HTTP like any other.
fn local_hive(address: SocketAddr) -> hive_agent::config::Config {
    // Bound to every address, she is reached on the loopback one.
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let url = format!("http://{}", SocketAddr::new(ip, address.port()));
    let queen = url.parse().expect("an address makes a URL");
    hive_agent::config::Config::in_process(queen)
}

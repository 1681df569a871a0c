//! The command line. Every setting can also come from the environment
//! (`CARRACK_DATA_DIR`) or from `DIR/config.yaml`; a flag wins over the environment,
//! and both over the file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Settings;

/// A container orchestrator in one binary that speaks the Kubernetes API.
#[derive(Debug, Parser)]
#[command(name = "carrack", version, about, after_help = EXAMPLES)]
pub struct Carrack {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  carrack up --example hello          a cluster on this machine, and something that runs in it
  export KUBECONFIG=/var/lib/carrack/kubeconfig; kubectl get pods
  carrack server --data-dir ./data    only the control plane; needs no root
  carrack server --simulate 100       … with a hundred nodes that only seem to be there
  carrack down --purge                leave the machine as it was";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start everything on this machine: control plane, node, network, DNS (as root)
    Up(Up),
    /// Stop the cluster on this machine and all its containers
    Down(Down),
    /// Start only the control plane: API server, controllers, scheduler
    Server(Server),
    /// Run simulated nodes of a cluster elsewhere
    Agent(Agent),
    /// Import, list or remove container images of this node
    Image(Image),
    /// Write everything that the cluster's store holds to a file
    Backup(Backup),
    /// Replace everything that the cluster's store holds by a backup
    Restore(Restore),
    /// Look through a database or a backup for damage
    Check(Check),
    /// Show or change what is encrypted on disk, and its keys
    Encryption(Encryption),
    /// Print the kubeconfig of the administrator
    Kubeconfig(DataDir),
    /// Print the version
    Version,
    /// Answer HTTP requests with a greeting (the program in the example's image)
    #[command(hide = true)]
    Hello(Hello),
}

/// Where the data lies.
#[derive(Debug, Clone, Args)]
pub struct DataDir {
    /// Directory that holds everything: database, keys, images, pods
    #[arg(
        long,
        global = true,
        env = "CARRACK_DATA_DIR",
        default_value = "/var/lib/carrack",
        value_name = "DIR"
    )]
    pub data_dir: PathBuf,
}

/// `carrack up`.
#[derive(Debug, Clone, Args)]
pub struct Up {
    /// Where the data lies.
    #[command(flatten)]
    pub at: DataDir,
    /// What the cluster looks like.
    #[command(flatten)]
    pub settings: Settings,
    /// Deploy an example once the node is ready
    #[arg(long, value_name = "NAME")]
    pub example: Option<Example>,
    /// Return once everything runs; the cluster goes on in the background
    #[arg(long)]
    pub detach: bool,
    /// This is the background half of `--detach`
    #[arg(long, hide = true)]
    pub report: bool,
}

/// Examples that ship in the binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Example {
    /// A Deployment, a Service and a NodePort that greet
    Hello,
}

/// `carrack down`.
#[derive(Debug, Clone, Args)]
pub struct Down {
    /// Where the data lies.
    #[command(flatten)]
    pub at: DataDir,
    /// Remove the data directory too
    #[arg(long)]
    pub purge: bool,
}

/// `carrack server`.
#[derive(Debug, Clone, Args)]
pub struct Server {
    /// Where the data lies.
    #[command(flatten)]
    pub at: DataDir,
    /// What the cluster looks like.
    #[command(flatten)]
    pub settings: Settings,
    /// Where objects are kept
    #[arg(long, env = "CARRACK_STORE", value_enum, default_value_t = StoreKind::Sqlite)]
    pub store: StoreKind,
    /// Parts to leave out, separated by commas
    #[arg(long, env = "CARRACK_DISABLE", value_enum, value_delimiter = ',', value_name = "PART,…")]
    pub disable: Vec<Part>,
    /// Nodes that only seem to be there.
    #[command(flatten)]
    pub simulate: Simulate,
}

/// `carrack agent`.
#[derive(Debug, Clone, Args)]
pub struct Agent {
    /// How to reach the cluster, and as whom
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// Nodes that only seem to be there.
    #[command(flatten)]
    pub simulate: Simulate,
    /// What to log: error, warn, info, debug, trace, or filters such as carrack_node=debug
    #[arg(long, env = "CARRACK_LOG", default_value = "warn", value_name = "FILTER")]
    pub log: String,
}

/// Simulated nodes: real API traffic and pod life cycles, no containers.
#[derive(Debug, Clone, Args)]
pub struct Simulate {
    /// Number of nodes to simulate; their pods seem to run
    #[arg(long = "simulate", env = "CARRACK_SIMULATE", value_name = "N", default_value_t = 0)]
    pub nodes: u32,
    /// What the names of simulated nodes begin with
    #[arg(long = "simulate-name", value_name = "NAME", default_value = "sim")]
    pub name: String,
    /// Number of the first simulated node, for fleets in several processes
    #[arg(long = "simulate-first", value_name = "N", default_value_t = 0)]
    pub first: u32,
    /// What each simulated node has
    #[arg(
        long = "simulate-capacity",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "cpu=32,memory=256Gi,pods=110"
    )]
    pub capacity: Vec<String>,
    /// From the binding of a pod to its start, spread by half of it both ways
    #[arg(long = "simulate-start", value_name = "TIME", default_value = "100ms", value_parser = duration)]
    pub start: Duration,
    /// From the signal to the end of a container
    #[arg(long = "simulate-stop", value_name = "TIME", default_value = "100ms", value_parser = duration)]
    pub stop: Duration,
    /// How long the pods of Jobs run
    #[arg(long = "simulate-job", value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub job: Duration,
    /// Share of pods, from 0 to 1, that fail
    #[arg(long = "simulate-failures", value_name = "SHARE", default_value_t = 0.0)]
    pub failures: f64,
    /// Image that cannot be pulled by simulated nodes; can be given several times
    #[arg(long = "simulate-missing-image", value_name = "IMAGE")]
    pub missing: Vec<String>,
    /// How often the Lease of each simulated node is renewed
    #[arg(long = "simulate-heartbeat", value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub heartbeat: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    carrack_node::simulate::scenario::parse(text)
        .ok_or_else(|| "use a time such as 500ms, 10s or 1m30s".to_owned())
}

/// Backends of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StoreKind {
    /// A database in the data directory
    Sqlite,
    /// Nothing is kept
    Memory,
}

/// Parts of the control plane that something else can stand in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// All controllers
    Controllers,
    /// The scheduler
    Scheduler,
}

/// `carrack image`.
#[derive(Debug, Clone, Args)]
pub struct Image {
    /// Where the data lies.
    #[command(flatten)]
    pub at: DataDir,
    /// What to do.
    #[command(subcommand)]
    pub action: ImageAction,
}

/// What to do with images.
#[derive(Debug, Clone, Subcommand)]
pub enum ImageAction {
    /// Import docker or OCI archives (`docker save`, `skopeo copy … oci-archive:`)
    Import {
        /// Archives, plain or gzipped
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// List the images
    List,
    /// Remove an image by reference, digest or id
    Remove {
        /// Such as `docker.io/library/nginx:1.27`
        reference: String,
    },
}

/// `carrack backup`.
#[derive(Debug, Clone, Args)]
pub struct Backup {
    /// Where the data lies.
    #[command(flatten)]
    pub at: DataDir,
    /// File to write
    pub file: PathBuf,
    /// Put the cluster's keys into the file too; whoever has it can read every Secret
    #[arg(long)]
    pub with_keys: bool,
}

/// `carrack restore`.
#[derive(Debug, Clone, Args)]
pub struct Restore {
    /// Where the data lies.
    #[command(flatten)]
    pub at: DataDir,
    /// File that `carrack backup` wrote
    pub file: PathBuf,
    /// Leave out objects that are encrypted with a key that is lost
    #[arg(long)]
    pub without_sealed: bool,
}

/// `carrack check`.
#[derive(Debug, Clone, Args)]
pub struct Check {
    /// Where the data lies.
    #[command(flatten)]
    pub at: DataDir,
    /// A backup [default: the database in the data directory]
    pub file: Option<PathBuf>,
}

/// `carrack encryption`.
#[derive(Debug, Clone, Args)]
pub struct Encryption {
    /// Where the data lies.
    #[command(flatten)]
    pub at: DataDir,
    /// What to do.
    #[command(subcommand)]
    pub action: EncryptionAction,
}

/// What to do with keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum EncryptionAction {
    /// Show what is encrypted, and with which key
    Status,
    /// Make a new key and rewrite everything with it; old keys stay readable
    Rotate,
    /// Remove keys that nothing is encrypted with any more
    Retire,
    /// Take in what was changed in DIR/encryption.yaml by hand, and rewrite accordingly
    Reload,
}

/// `carrack hello`.
#[derive(Debug, Clone, Args)]
pub struct Hello {
    /// Address to listen on
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
}

//! decK's command line: commands and flags.

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The command line when the binary is called `deck`.
#[derive(Parser)]
#[command(
    name = "deck",
    about = "Declarative configuration of API gateways, with decK's commands",
    disable_version_flag = true
)]
pub struct Deck {
    /// Where and how the gateway is spoken to.
    #[command(flatten)]
    pub connection: Connection,
    /// The command.
    #[command(subcommand)]
    pub command: DeckCommand,
}

/// Commands of `deck`.
#[derive(Subcommand)]
pub enum DeckCommand {
    /// Work with a gateway's configuration
    Gateway {
        /// The command.
        #[command(subcommand)]
        command: GatewayCommand,
    },
    /// Print the version
    Version,
    /// Print a shell's completion script
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Moved: deck gateway sync
    #[command(hide = true)]
    Sync(Moved<Sync>),
    /// Moved: deck gateway diff
    #[command(hide = true)]
    Diff(Moved<Diff>),
    /// Moved: deck gateway validate
    #[command(hide = true)]
    Validate(Moved<Validate>),
    /// Moved: deck gateway dump
    #[command(hide = true)]
    Dump(Dump),
    /// Moved: deck gateway reset
    #[command(hide = true)]
    Reset(Reset),
    /// Moved: deck gateway ping
    #[command(hide = true)]
    Ping(Ping),
}

/// Shells that completions are written for.
#[derive(Clone, Copy, ValueEnum)]
#[allow(missing_docs)]
pub enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

impl From<Shell> for clap_complete::Shell {
    fn from(shell: Shell) -> Self {
        match shell {
            Shell::Bash => Self::Bash,
            Shell::Elvish => Self::Elvish,
            Shell::Fish => Self::Fish,
            Shell::Powershell => Self::PowerShell,
            Shell::Zsh => Self::Zsh,
        }
    }
}

/// A command of the time when files were given with `--state`.
#[derive(Args)]
pub struct Moved<T: Args> {
    /// File or folder
    #[arg(short, long, value_delimiter = ',', default_value = "kong.yaml")]
    pub state: Vec<String>,
    /// The command's own flags.
    #[command(flatten)]
    pub command: T,
}

/// `tollgate gateway`
#[derive(Args)]
pub struct Gateway {
    /// Where and how the gateway is spoken to.
    #[command(flatten)]
    pub connection: Connection,
    /// The command.
    #[command(subcommand)]
    pub command: GatewayCommand,
}

/// Commands below `gateway`.
#[derive(Subcommand)]
pub enum GatewayCommand {
    /// Whether the gateway can be reached
    Ping(Ping),
    /// Bring the gateway to what the files say: create, update and delete
    Sync(Sync),
    /// Bring what the files say to the gateway, deleting nothing
    Apply(Apply),
    /// Show what a sync would change
    Diff(Diff),
    /// Write the gateway's configuration as a file
    Dump(Dump),
    /// Check files against the gateway's schemas, changing nothing
    Validate(Validate),
    /// Delete the gateway's configuration
    Reset(Reset),
    /// List the revisions of a Tollgate's configuration
    History,
    /// Bring back an earlier revision of a Tollgate's configuration
    Rollback {
        /// Its number, as `history` lists it
        revision: u64,
    },
}

/// Flags of every command.
#[derive(Clone, Default, Args)]
#[command(next_help_heading = "Connection (also DECK_… variables and ~/.deck.yaml)")]
pub struct Connection {
    /// Configuration file [default: ~/.deck.yaml]
    #[arg(long, global = true)]
    pub config: Option<String>,
    /// Address of the Admin API [default: http://localhost:8001]
    #[arg(long, global = true, value_name = "URL")]
    pub kong_addr: Option<String>,
    /// Token for the Admin API, sent as Kong-Admin-Token
    #[arg(long, global = true, value_name = "TOKEN")]
    pub kong_admin_token: Option<String>,
    /// Header to send along, as name:value; may be repeated
    #[arg(long, global = true, value_delimiter = ',', value_name = "NAME:VALUE")]
    pub headers: Vec<String>,
    /// Do not check the server's certificate
    #[arg(long, global = true)]
    pub tls_skip_verify: bool,
    /// Name the server's certificate must have
    #[arg(long, global = true, value_name = "NAME")]
    pub tls_server_name: Option<String>,
    /// Certificate authority to trust, as PEM
    #[arg(long, global = true, value_name = "PEM")]
    pub ca_cert: Option<String>,
    /// File with the certificate authority to trust
    #[arg(long, global = true, value_name = "FILE")]
    pub ca_cert_file: Option<String>,
    /// Certificate to show to the server, as PEM
    #[arg(long, global = true, value_name = "PEM")]
    pub tls_client_cert: Option<String>,
    /// File with the certificate to show to the server
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_client_cert_file: Option<String>,
    /// Key of that certificate, as PEM
    #[arg(long, global = true, value_name = "PEM")]
    pub tls_client_key: Option<String>,
    /// File with the key of that certificate
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_client_key_file: Option<String>,
    /// Neither look for nor create workspaces
    #[arg(long, global = true)]
    pub skip_workspace_crud: bool,
    /// File with cookies to send (Netscape format)
    #[arg(long, global = true, value_name = "FILE")]
    pub kong_cookie_jar_path: Option<String>,
    /// Seconds a call may take [default: 10]
    #[arg(long, global = true, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Token for Konnect
    #[arg(long, global = true, value_name = "TOKEN")]
    pub konnect_token: Option<String>,
    /// File with the token for Konnect
    #[arg(long, global = true, value_name = "FILE")]
    pub konnect_token_file: Option<String>,
    /// Address of Konnect [default: the address of the Admin API]
    #[arg(long, global = true, value_name = "URL")]
    pub konnect_addr: Option<String>,
    /// Control plane in Konnect [default: default]
    #[arg(long, global = true, value_name = "NAME")]
    pub konnect_control_plane_name: Option<String>,
    /// The older name of --konnect-control-plane-name
    #[arg(long, global = true, hide = true)]
    pub konnect_runtime_group_name: Option<String>,
    /// Show requests and answers on standard error
    #[arg(long, global = true, value_name = "LEVEL")]
    pub verbose: Option<u8>,
    /// No colours
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Accepted for compatibility: nothing is reported to anybody
    #[arg(long, global = true, hide = true)]
    pub analytics: bool,
}

/// Which entities are looked at.
#[derive(Clone, Default, Args)]
#[command(next_help_heading = "What is looked at")]
pub struct Selection {
    /// Workspace
    #[arg(short, long)]
    pub workspace: Option<String>,
    /// Only entities with this tag; may be repeated
    #[arg(long, value_delimiter = ',')]
    pub select_tag: Vec<String>,
    /// Leave consumers, their credentials and plugins alone
    #[arg(long)]
    pub skip_consumers: bool,
    /// Do not list the members of consumer groups
    #[arg(long)]
    pub skip_consumers_with_consumer_groups: bool,
    /// Leave CA certificates alone
    #[arg(long)]
    pub skip_ca_certificates: bool,
    /// Only RBAC roles and permissions
    #[arg(long)]
    pub rbac_resources_only: bool,
    /// Cloned and custom plugins too
    #[arg(long)]
    pub include_plugin_definitions: bool,
    /// Older rate-limiting overrides of consumer groups
    #[arg(long, hide = true)]
    pub consumer_group_policy_overrides: bool,
}

/// What is printed of changes.
#[derive(Clone, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct Report {
    /// Print one JSON document in place of lines
    #[arg(long)]
    pub json_output: bool,
    /// Print no line per change, only the summary
    #[arg(long)]
    pub silence_events: bool,
    /// Show values of DECK_… variables in differences
    #[arg(long)]
    pub no_mask_deck_env_vars_value: bool,
}

/// Diagnostics that are turned into errors or warnings.
#[derive(Clone, Default, Args)]
pub struct Diagnostics {
    /// Warnings that are errors (codes)
    #[arg(short = 'E', long, value_delimiter = ',', value_name = "CODE")]
    pub warnings_as_errors: Vec<String>,
    /// Errors that are warnings (codes)
    #[arg(short = 'W', long, value_delimiter = ',', value_name = "CODE")]
    pub errors_as_warnings: Vec<String>,
}

/// `gateway ping`
#[derive(Clone, Args)]
pub struct Ping {
    /// Workspace
    #[arg(short, long)]
    pub workspace: Option<String>,
}

/// `gateway sync`
#[derive(Clone, Args)]
pub struct Sync {
    /// Files or folders; - for standard input
    pub files: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub selection: Selection,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub report: Report,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub diagnostics: Diagnostics,
    /// Calls at a time
    #[arg(long, default_value_t = 10, allow_negative_numbers = true)]
    pub parallelism: i64,
    /// Seconds to wait after each kind of entity
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub db_update_propagation_delay: u64,
    /// Passwords of basic-auth are hashed already (Konnect)
    #[arg(long)]
    pub skip_hash_for_basic_auth: bool,
    /// Ask nothing
    #[arg(long)]
    pub yes: bool,
}

/// `gateway apply`
#[derive(Clone, Args)]
pub struct Apply {
    /// Files or folders; - for standard input
    pub files: Vec<String>,
    /// Workspace
    #[arg(short, long)]
    pub workspace: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub report: Report,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub diagnostics: Diagnostics,
    /// Calls at a time
    #[arg(long, default_value_t = 10, allow_negative_numbers = true)]
    pub parallelism: i64,
    /// Seconds to wait after each kind of entity
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub db_update_propagation_delay: u64,
    /// Cloned and custom plugins too
    #[arg(long)]
    pub include_plugin_definitions: bool,
    /// Passwords of basic-auth are hashed already (Konnect)
    #[arg(long)]
    pub skip_hash_for_basic_auth: bool,
}

/// `gateway diff`
#[derive(Clone, Args)]
pub struct Diff {
    /// Files or folders; - for standard input
    pub files: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub selection: Selection,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub report: Report,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub diagnostics: Diagnostics,
    /// Exit with 2 where something differs
    #[arg(long)]
    pub non_zero_exit_code: bool,
    /// Calls at a time
    #[arg(long, default_value_t = 10, allow_negative_numbers = true)]
    pub parallelism: i64,
    /// Ask nothing
    #[arg(long)]
    pub yes: bool,
}

/// `gateway dump`
#[derive(Clone, Args)]
pub struct Dump {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub selection: Selection,
    /// File to write; - for standard output
    #[arg(short, long, default_value = "-")]
    pub output_file: String,
    /// Format of the file
    #[arg(long, value_enum, ignore_case = true)]
    pub format: Option<Format>,
    /// Write ids too
    #[arg(long)]
    pub with_id: bool,
    /// Leave out values that are defaults
    #[arg(long)]
    pub skip_defaults: bool,
    /// Replace what is one's own by hashes, so that others may see the file
    #[arg(long)]
    pub sanitize: bool,
    /// What is hashed before each text [default: another one each time]
    #[arg(long, hide = true, requires = "sanitize")]
    pub sanitization_salt: Option<String>,
    /// A file per workspace
    #[arg(long)]
    pub all_workspaces: bool,
    /// Overwrite files without asking
    #[arg(long)]
    pub yes: bool,
}

/// Formats of files.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Format {
    Yaml,
    Json,
}

/// `gateway validate`
#[derive(Clone, Args)]
pub struct Validate {
    /// Files or folders; - for standard input
    pub files: Vec<String>,
    /// Workspace
    #[arg(short, long)]
    pub workspace: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub diagnostics: Diagnostics,
    /// Calls at a time
    #[arg(long, default_value_t = 10, allow_negative_numbers = true)]
    pub parallelism: i64,
    /// Kinds to check, such as Services or Plugins [default: all]
    #[arg(long, value_delimiter = ',', value_name = "KINDS")]
    pub online_entities_list: Vec<String>,
    /// Whether Konnect would take the files
    #[arg(long, conflicts_with_all = ["workspace", "rbac_resources_only"])]
    pub konnect_compatibility: bool,
    /// Only RBAC roles and permissions
    #[arg(long)]
    pub rbac_resources_only: bool,
    /// Always so; accepted for compatibility
    #[arg(long, hide = true)]
    pub online: bool,
}

/// `gateway reset`
#[derive(Clone, Args)]
pub struct Reset {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub selection: Selection,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Every workspace
    #[arg(long)]
    pub all_workspaces: bool,
    /// Print nothing
    #[arg(long)]
    pub json_output: bool,
    /// Show values of DECK_… variables
    #[arg(long, hide = true)]
    pub no_mask_deck_env_vars_value: bool,
    /// Leave cloned and custom plugins alone
    #[arg(long)]
    pub skip_plugin_definitions: bool,
}

//! One account and region, behind the SDK's clients.
//!
//! The SDK retries nothing of ours: a retry belongs above the rate limit, where it is counted and can be audited. It does
//! retry where it fetches credentials, which is its own affair. Its stalled-stream protection stays on.

use std::sync::Arc;
use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::imds;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_sdk_ec2::config::{AppName, SharedCredentialsProvider, SharedHttpClient};
use aws_sdk_ec2::operation::RequestId;
use aws_smithy_http_client::pool::{Client, ConnectionPool, DriverSpawner, Partition, PartitionId};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls;
use aws_types::service_config::ServiceConfigKey;
use stillframe_cloud::api::{ApiError, ErrorKind, Place};

use crate::errors::{self, Call};
use crate::locality::{self, Endpoint, Locality, Situation};
use crate::options::{InProcess, LoopbackCredentials, OpenError, Options, Role};
use crate::task;

/// The SDK's behaviour as of this day. A later one may retry, wait or connect otherwise, and belongs tested first.
fn behavior() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// To the first byte of the reply.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(60);
/// Metadata is one hop away or not there at all.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);
/// Assuming a role may take several calls.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(30);

/// One account and region. Cheap to clone; clones share connections and credentials.
#[derive(Clone, Debug)]
pub struct Connection {
    pub(crate) ec2: aws_sdk_ec2::Client,
    pub(crate) ebs: aws_sdk_ebs::Client,
    sts: aws_sdk_sts::Client,
    pub(crate) advice: Advisers,
    region: Arc<str>,
    locality: Locality,
}

/// The services that are asked only before a scan. They bear no data of a disk, so that they may be anywhere; but where
/// the others are on loopback nobody wants the true cloud asked: `None` then, unless it is on loopback as well.
#[derive(Clone, Debug)]
pub(crate) struct Advisers {
    pub(crate) kms: Option<aws_sdk_kms::Client>,
    pub(crate) recycle_bin: Option<aws_sdk_rbin::Client>,
    pub(crate) quotas: Option<aws_sdk_servicequotas::Client>,
}

impl Connection {
    /// Opens a connection: finds region and credentials, and makes sure that data stays in its region. Asks nothing of the
    /// cloud, but the metadata of this machine where it needs to know where that is; so wrong credentials show up with the
    /// first call: make [`caller`](Self::caller) the first one.
    ///
    /// Must run inside tokio; the connection lives as long as the runtime does.
    ///
    /// # Errors
    /// The options make no sense, there is no region, or data would leave its region and that was not allowed.
    pub async fn open(options: &Options) -> Result<Self, OpenError> {
        options.check()?;
        let config = load(options).await;
        let region = config.region().ok_or(OpenError::NoRegion)?.to_string();
        if !locality::is_region_name(&region) {
            return Err(OpenError::RegionName);
        }

        let ec2_url = endpoint(&config, options, "EC2")?;
        let ebs_url = endpoint(&config, options, "EBS")?;
        let sts_url = endpoint(&config, options, "STS")?;
        let advice_urls = [
            endpoint(&config, options, "KMS")?,
            endpoint(&config, options, "rbin")?,
            endpoint(&config, options, "Service Quotas")?,
        ];
        let locality = place_of_data(options, &region, &ec2_url, &ebs_url).await?;

        let http = match &options.in_process {
            Some(InProcess(client)) => client.clone(),
            None => http_client(options.max_connections, locality == Locality::Loopback)?,
        };
        let mut config = config
            .into_builder()
            .http_client(http)
            .retry_config(RetryConfig::standard())
            .identity_cache(IdentityCache::lazy().load_timeout(CREDENTIALS_TIMEOUT).build())
            .build();
        if let Some(role) = &options.role {
            let assumed = assume(role, &config).await;
            config = config.into_builder().credentials_provider(assumed).build();
        }
        // Last: the role's provider above keeps its retries.
        let config = config.into_builder().retry_config(RetryConfig::disabled()).build();

        let mut ec2 = aws_sdk_ec2::config::Builder::from(&config);
        ec2.set_endpoint_url(ec2_url);
        let mut ebs = aws_sdk_ebs::config::Builder::from(&config);
        ebs.set_endpoint_url(ebs_url);
        let mut sts = aws_sdk_sts::config::Builder::from(&config);
        sts.set_endpoint_url(sts_url);
        Ok(Self {
            ec2: aws_sdk_ec2::Client::from_conf(ec2.build()),
            ebs: aws_sdk_ebs::Client::from_conf(ebs.build()),
            sts: aws_sdk_sts::Client::from_conf(sts.build()),
            advice: advisers(&config, advice_urls, locality == Locality::Loopback),
            region: region.into(),
            locality,
        })
    }

    /// Who is calling (`GetCallerIdentity`), and where the disks are.
    ///
    /// # Errors
    /// No credentials, wrong ones, a role that may not be assumed, or no reply.
    pub async fn caller(&self) -> Result<Place, ApiError> {
        let call = Call { operation: "sts:GetCallerIdentity", resource: None };
        let identity = self
            .sts
            .get_caller_identity()
            .send()
            .await
            .map_err(|error| errors::translate(&call, &error, errors::no_reason))?;
        let is_account =
            |account: &&str| account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let account = identity.account().filter(is_account).ok_or_else(|| ApiError {
            operation: call.operation,
            resource: None,
            kind: ErrorKind::Other,
            code: "the reply names no account".to_owned(),
            request_id: identity.request_id().and_then(errors::request_word),
        })?;
        Ok(Place { account: account.to_owned(), region: self.region.to_string() })
    }

    /// The region of the disks.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Why data stays in its region, or that it was allowed not to: for the audit log.
    #[must_use]
    pub fn locality(&self) -> &Locality {
        &self.locality
    }
}

fn advisers(config: &SdkConfig, urls: [Option<String>; 3], loopback: bool) -> Advisers {
    let [kms_url, bin_url, quotas_url] = urls;
    let may_ask = |url: &Option<String>| !loopback || url.as_deref().is_some_and(locality::is_loopback);
    let kms = may_ask(&kms_url).then(|| {
        let mut kms = aws_sdk_kms::config::Builder::from(config);
        kms.set_endpoint_url(kms_url);
        aws_sdk_kms::Client::from_conf(kms.build())
    });
    let recycle_bin = may_ask(&bin_url).then(|| {
        let mut bin = aws_sdk_rbin::config::Builder::from(config);
        bin.set_endpoint_url(bin_url);
        aws_sdk_rbin::Client::from_conf(bin.build())
    });
    let quotas = may_ask(&quotas_url).then(|| {
        let mut quotas = aws_sdk_servicequotas::config::Builder::from(config);
        quotas.set_endpoint_url(quotas_url);
        aws_sdk_servicequotas::Client::from_conf(quotas.build())
    });
    Advisers { kms, recycle_bin, quotas }
}

/// Environment, profile and options, as the SDK reads them.
async fn load(options: &Options) -> SdkConfig {
    let mut loader: ConfigLoader = aws_config::defaults(behavior()).timeout_config(
        TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(OPERATION_TIMEOUT)
            .build(),
    );
    if let Ok(name) = AppName::new("stillframe") {
        loader = loader.app_name(name);
    }
    if let Some(profile) = &options.profile {
        // Named, it goes before the keys of the environment, which may be another account's.
        let provider = ProfileFileCredentialsProvider::builder().profile_name(profile).build();
        loader = loader.profile_name(profile).credentials_provider(provider);
    }
    if let Some(region) = &options.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(url) = &options.endpoint_url {
        loader = loader.endpoint_url(url);
    }
    if let Some(LoopbackCredentials(credentials)) = &options.loopback_credentials {
        loader = loader.credentials_provider(credentials.clone());
    }
    loader.load().await
}

/// The endpoint of a service, where one was set: in the options, for the service, or for all of them.
fn endpoint(
    config: &SdkConfig,
    options: &Options,
    service: &'static str,
) -> Result<Option<String>, OpenError> {
    let of_service = || {
        let key = ServiceConfigKey::builder()
            .service_id(service)
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .build()
            .ok()?;
        config.service_config()?.load_config(key)
    };
    let url =
        options.endpoint_url.clone().or_else(of_service).or_else(|| config.endpoint_url().map(str::to_owned));
    match url {
        Some(url) if !is_http(&url) => Err(OpenError::Endpoint { service }),
        url => Ok(url),
    }
}

fn is_http(url: &str) -> bool {
    (url.starts_with("http://") || url.starts_with("https://"))
        && url.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether data stays in its region. This machine's metadata are asked only where the verdict hangs on them.
async fn place_of_data(
    options: &Options,
    region: &str,
    ec2_url: &Option<String>,
    ebs_url: &Option<String>,
) -> Result<Locality, OpenError> {
    let mut situation = Situation {
        own: None,
        target: region.to_owned(),
        endpoints: vec![
            Endpoint { service: "EC2", url: ec2_url.clone() },
            Endpoint { service: "EBS", url: ebs_url.clone() },
        ],
        allow_cross_region: options.allow_cross_region,
    };
    if !situation.is_loopback() {
        let variable = |name: &str| std::env::var(name).ok();
        situation.own = locality::own_region(
            machines_region().await,
            variable("AWS_EXECUTION_ENV").as_deref(),
            variable("AWS_REGION").as_deref(),
        );
    }
    Ok(locality::judge(&situation)?)
}

/// The region of the container's task, else of the machine, as each is told of itself.
async fn machines_region() -> Option<String> {
    match task::region().await {
        None => metadata_region().await,
        of_task => of_task,
    }
}

/// The region in this machine's instance metadata.
async fn metadata_region() -> Option<String> {
    let client = imds::Client::builder()
        .connect_timeout(METADATA_TIMEOUT)
        .read_timeout(METADATA_TIMEOUT)
        .max_attempts(2)
        .build();
    let provider = imds::region::ImdsRegionProvider::builder().imds_client(client).build();
    provider.region().await.map(|region| region.to_string()).filter(|region| locality::is_region_name(region))
}

/// Connections are bounded: the SDK's own pool is not, and a thousand reads in flight would open a thousand. They live in
/// the runtime that this is called in.
fn http_client(max_connections: usize, loopback: bool) -> Result<SharedHttpClient, OpenError> {
    // A proxy cannot reach what is on our loopback.
    let proxy = if loopback { ProxyConfig::disabled() } else { ProxyConfig::from_env() };
    let runtime = tokio::runtime::Handle::try_current().map_err(|_| OpenError::HttpClient)?;
    let spawner = DriverSpawner::from_fn(move |driver| drop(runtime.spawn(driver)));
    let partition = PartitionId::from_index(0);
    let pool = ConnectionPool::builder()
        .partitions([Partition::new(partition, spawner)])
        .max_connections_per_host(max_connections)
        .proxy_config(proxy)
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
        .build_https()
        .map_err(|_| OpenError::HttpClient)?;
    let client = Client::from_partition(&pool, partition).map_err(|_| OpenError::HttpClient)?;
    Ok(SharedHttpClient::new(client))
}

async fn assume(role: &Role, base: &SdkConfig) -> SharedCredentialsProvider {
    let mut builder =
        AssumeRoleProvider::builder(&role.arn).session_name(role.session_name()).configure(base);
    if let Some(external_id) = &role.external_id {
        builder = builder.external_id(external_id);
    }
    SharedCredentialsProvider::new(builder.build().await)
}

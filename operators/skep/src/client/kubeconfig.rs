//! `skep kubeconfig`: a kubeconfig with a short-lived certificate whose key never leaves this machine.

use clap::Args;
use skep_pki::{CertificatePem, Kubeconfig, Leaf, new_request};
use skep_provision::model::{Credentials, NewKubeconfig};

use super::cluster::clusters_path;
use super::{Context, Failure};

/// Options of `skep kubeconfig`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Example:\n  skep kubeconfig demo > demo.kubeconfig && kubectl --kubeconfig demo.kubeconfig get namespaces"
)]
pub struct KubeconfigArgs {
    /// The cluster's name.
    pub name: String,
    /// How long the certificate is to be valid: 10m to 24h.
    #[arg(long, default_value = "1h")]
    pub ttl: String,
    /// Also keep it as clusters/PROJECT/NAME.kubeconfig in the state directory.
    #[arg(long)]
    pub save: bool,
}

/// Makes a key, has it certified, and prints the kubeconfig.
pub async fn run(args: KubeconfigArgs, context: &Context) -> Result<(), Failure> {
    let text = fetch(&args.name, &args.ttl, context).await?;
    if args.save {
        let directory = context.home.path().join("clusters").join(&context.global.project);
        context
            .home
            .write(&directory.join(format!("{}.kubeconfig", args.name)), &text)?;
    }
    print!("{text}");
    Ok(())
}

/// A kubeconfig of a cluster as YAML, its key made here.
pub async fn fetch(name: &str, ttl: &str, context: &Context) -> Result<String, Failure> {
    Ok(fetch_with_authority(name, ttl, context).await?.0)
}

/// As [`fetch`], with the cluster's authority beside it.
pub async fn fetch_with_authority(
    name: &str,
    ttl: &str,
    context: &Context,
) -> Result<(String, CertificatePem), Failure> {
    let (key, request) = new_request("skep", &[]).map_err(Failure::from_error)?;
    let wish = NewKubeconfig {
        csr: request.as_str().to_owned(),
        ttl: Some(ttl.to_owned()),
    };
    let path = format!("{}/{name}/kubeconfig", clusters_path(&context.global.project));
    let credentials: Credentials = context.api()?.post(&path, &wish).await?;
    let certificate = CertificatePem::parse(&credentials.certificate).map_err(Failure::from_error)?;
    let authority = CertificatePem::parse(&credentials.certificate_authority).map_err(Failure::from_error)?;
    let leaf = Leaf { certificate, key };
    let kubeconfig = Kubeconfig::new(name, &credentials.server, authority.as_str())
        .tls_server_name(&credentials.tls_server_name)
        .leaf(&leaf)
        .build()
        .map_err(Failure::from_error)?;
    Ok((kubeconfig.expose().to_owned(), authority))
}

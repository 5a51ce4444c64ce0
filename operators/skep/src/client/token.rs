//! `skep token …`: creates, lists and revokes the tokens of a project.

use clap::{Args, Subcommand};
use skep_provision::model::{NewToken, Token};

use super::output::{Tabular, age, print_list, print_one};
use super::{Context, Failure};

/// Options of `skep token`.
#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What can be done with tokens.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Create a token; it is shown this once.
    Create {
        /// How long it is valid: 1m to 8760h.
        #[arg(long, default_value = "720h")]
        ttl: String,
        /// What it is for.
        #[arg(long)]
        description: Option<String>,
    },
    /// List the tokens, without their secrets.
    #[command(visible_alias = "ls")]
    List,
    /// Revoke a token; it stops working at once.
    Revoke {
        /// The token's id.
        id: String,
    },
}

impl Tabular for Token {
    const HEADINGS: &'static [&'static str] = &["ID", "EXPIRES", "AGE", "DESCRIPTION", "TOKEN", "CREATED-BY"];
    const NARROW: usize = 5;

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.expires_at.clone(),
            age(self.created_at.as_deref(), jiff::Timestamp::now()),
            self.description.clone().unwrap_or_else(|| "-".to_owned()),
            self.token.clone().unwrap_or_else(|| "(shown once)".to_owned()),
            self.created_by.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    }

    fn name(&self) -> String {
        self.id.clone()
    }
}

/// Runs `skep token …`.
pub async fn run(args: TokenArgs, context: &Context) -> Result<(), Failure> {
    let api = context.api()?;
    let format = context.global.output;
    let tokens = format!("/v1/projects/{}/tokens", context.global.project);
    match args.command {
        TokenCommand::Create { ttl, description } => {
            let made: Token = api
                .post(
                    &tokens,
                    &NewToken {
                        ttl: Some(ttl),
                        description,
                    },
                )
                .await?;
            Ok(print_one(format, &made)?)
        }
        TokenCommand::List => Ok(print_list(format, &api.list::<Token>(&tokens).await?)?),
        TokenCommand::Revoke { id } => {
            api.delete(&format!("{tokens}/{id}")).await?;
            eprintln!("token {id} is revoked");
            Ok(())
        }
    }
}

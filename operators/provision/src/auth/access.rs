//! What a caller may do, asked of the hub's API server by `SubjectAccessReview`.
//!
//! A project's token may do everything to its project's clusters and nothing else.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use skep_core::ProjectName;

use super::{TokenId, User};
use crate::problem::{Kind, Problem, from_hub};
use crate::state::ask;

/// What is accessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// `tenantclusters.skep.dev` in the project's namespace.
    Clusters,
    /// `tenantclusters.skep.dev/kubeconfig`: apart, since it makes one an administrator of the cluster.
    Kubeconfig,
    /// `projecttokens.skep.dev`: no kind of its own, only a right; a token reaches all of its project.
    Tokens,
    /// `namespaces`: a project is one.
    Projects,
}

/// One thing to be done.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// The verb, as in RBAC.
    pub verb: &'a str,
    /// What it is done to.
    pub resource: Resource,
    /// The project that it is done in; none for the platform itself.
    pub project: Option<&'a ProjectName>,
}

impl Access<'_> {
    /// Decides for a project's token.
    pub(super) fn check_token(&self, id: &TokenId) -> Result<(), Problem> {
        let is_own = self.project == Some(&id.project);
        let is_reach = match self.resource {
            Resource::Clusters | Resource::Kubeconfig => true,
            Resource::Projects => self.verb == "get",
            Resource::Tokens => false,
        };
        if is_own && is_reach {
            return Ok(());
        }
        let detail = match self.project {
            Some(project) if is_own => {
                format!(
                    "a project token cannot {} of project {project}; use a user's token",
                    self.wish()
                )
            }
            Some(_) => "the token belongs to another project".to_owned(),
            None => format!("a project token cannot {}; use a user's token", self.wish()),
        };
        Err(Kind::Forbidden.because(detail))
    }

    /// Asks the hub's API server for a user.
    pub(super) async fn review(&self, client: &Client, user: &User) -> Result<(), Problem> {
        let review = SubjectAccessReview {
            spec: self.spec(user),
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
        let answer = ask(reviews.create(&PostParams::default(), &review)).await;
        let status = answer.map_err(|error| from_hub(&error))?.status;
        if status.is_some_and(|status| status.allowed && status.denied != Some(true)) {
            return Ok(());
        }
        let place = self
            .project
            .map_or_else(|| " on the platform".to_owned(), |p| format!(" in project {p}"));
        let detail = format!(
            "{} may not {}{place}; ask its owner for the right",
            user.name,
            self.wish()
        );
        Err(Kind::Forbidden.because(detail))
    }

    fn spec(&self, user: &User) -> SubjectAccessReviewSpec {
        let (group, resource, subresource) = self.names();
        SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: user.uid.clone(),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()),
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource: subresource.map(str::to_owned),
                verb: Some(self.verb.to_owned()),
                namespace: self.project.map(ProjectName::namespace),
                name: self
                    .project
                    .filter(|_| self.resource == Resource::Projects)
                    .map(ProjectName::namespace),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        }
    }

    fn names(&self) -> (&'static str, &'static str, Option<&'static str>) {
        match self.resource {
            Resource::Clusters => (skep_core::GROUP, "tenantclusters", None),
            Resource::Kubeconfig => (skep_core::GROUP, "tenantclusters", Some("kubeconfig")),
            Resource::Tokens => (skep_core::GROUP, "projecttokens", None),
            Resource::Projects => ("", "namespaces", None),
        }
    }

    fn wish(&self) -> String {
        let what = match self.resource {
            Resource::Clusters => "clusters",
            Resource::Kubeconfig => "kubeconfigs",
            Resource::Tokens => "tokens",
            Resource::Projects => "projects",
        };
        format!("{} {what}", self.verb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reaches_its_own_projects_clusters_alone() {
        let id = TokenId::parse("shop-00000000").unwrap();
        let (own, other) = ("shop".parse().unwrap(), "shop-b".parse().unwrap());
        let check = |resource, verb, project| {
            Access {
                verb,
                resource,
                project,
            }
            .check_token(&id)
            .is_ok()
        };
        assert!(check(Resource::Clusters, "delete", Some(&own)));
        assert!(check(Resource::Kubeconfig, "create", Some(&own)));
        assert!(check(Resource::Projects, "get", Some(&own)));
        assert!(!check(Resource::Clusters, "get", Some(&other)));
        assert!(!check(Resource::Projects, "list", None));
        assert!(!check(Resource::Projects, "delete", Some(&own)));
        assert!(!check(Resource::Tokens, "create", Some(&own)));
    }
}

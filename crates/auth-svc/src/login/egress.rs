//! By which egress a login leaves.

use domain::{Failure, Reason, service};

use super::Logins;
use crate::store::{EgressRule, Kind};

impl Logins {
    /// The rule that ties a new login to the egress that is asked for.
    pub(super) fn tie(&self, asked: Option<String>) -> Result<Option<EgressRule>, Failure> {
        let Some(name) = asked else { return Ok(None) };
        let rule = EgressRule { require: vec![name.trim().to_owned()], prefer: Vec::new() };
        match self.identity.unknown_egress(&rule) {
            Some(why) => Err(Failure::new(Reason::RequestInvalid, service::AUTH, why).param("egress")),
            None => Ok(Some(rule)),
        }
    }

    /// The rule of what a login will most likely renew, whose account nobody knows before its end: of the credential with
    /// this label, else the one that all logins of the provider have.
    pub(super) async fn rule_of(&self, provider: &str, label: Option<&str>) -> Result<EgressRule, Failure> {
        let mut logins = self.store.list_credentials(Some(provider)).await?;
        logins.retain(|one| one.kind == Kind::OAuth && label.is_none_or(|label| one.label == label));
        let all_alike = logins.windows(2).all(|pair| pair[0].egress == pair[1].egress);
        Ok(logins.into_iter().next().filter(|_| all_alike).map(|one| one.egress).unwrap_or_default())
    }
}

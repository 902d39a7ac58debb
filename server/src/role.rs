//! Who may do what: the roles of a token and the rights that each call wants.
//!
//! Apart and pure, because it is the whole of authorization on one screen. Invariant: a right that no role of the caller
//! names is refused; no role implies another, so that whoever hands out tokens cannot approve by that alone.

use std::fmt;

use thiserror::Error;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Asks for reviews and sees its own.
    Runner,
    /// Sees everything of the tenant, changes nothing.
    Auditor,
    /// Keeps policies and says which one judges, and sees the reviews that it would have changed.
    PolicyAuthor,
    /// Answers reviews that wait for a person.
    Approver,
    /// Hands out and takes back tokens, changes the policy, and sees everything of the tenant.
    Admin,
}

impl Role {
    /// Every role, in the order in which they are shown.
    pub(crate) const ALL: [Self; 5] = [
        Self::Runner,
        Self::Auditor,
        Self::PolicyAuthor,
        Self::Approver,
        Self::Admin,
    ];

    /// The name on the command line and in the store.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Runner => "runner",
            Self::Auditor => "auditor",
            Self::PolicyAuthor => "policy-author",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// Whether it gives `right`.
    pub(crate) fn allows(self, right: Right) -> bool {
        match right {
            Right::Ask => self == Self::Runner,
            Right::SeeOwn => true,
            Right::SeeTenant => self != Self::Runner,
            Right::Audit => matches!(self, Self::Auditor | Self::Admin),
            Right::Answer => self == Self::Approver,
            Right::WithdrawLeave => matches!(self, Self::Approver | Self::Admin),
            Right::HandOutTokens => self == Self::Admin,
            Right::ChangePolicy => matches!(self, Self::PolicyAuthor | Self::Admin),
        }
    }
}

/// What a call wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// Ask for a review, take it back, spend it, say how its run ended.
    Ask,
    /// See one's own reviews.
    SeeOwn,
    /// See every review of the tenant.
    SeeTenant,
    /// Export, count and verify the tenant's record.
    Audit,
    /// Answer for a person.
    Answer,
    /// Take back leave that an approver gave.
    WithdrawLeave,
    /// Make and revoke tokens.
    HandOutTokens,
    /// Keep policies, and say which one judges.
    ChangePolicy,
}

impl Right {
    /// Every right.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 8] = [
        Self::Ask,
        Self::SeeOwn,
        Self::SeeTenant,
        Self::Audit,
        Self::Answer,
        Self::WithdrawLeave,
        Self::HandOutTokens,
        Self::ChangePolicy,
    ];
}

/// The roles of one caller: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Roles(Vec<Role>);

/// Why a text names no roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a role is one of `runner`, `auditor`, `policy-author`, `approver`, `admin`")]
pub(crate) struct InvalidRole;

impl Roles {
    /// What a token could do before there were roles, and the caller of an embedded service.
    pub(crate) fn runner() -> Self {
        Self(vec![Role::Runner])
    }

    /// Reads names; at least one.
    ///
    /// # Errors
    /// A name is no role, or there is none.
    pub(crate) fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidRole> {
        let read: Option<Vec<_>> = names.into_iter().map(Role::parse).collect();
        let mut roles = read.filter(|roles| !roles.is_empty()).ok_or(InvalidRole)?;
        roles.sort_unstable();
        roles.dedup();
        Ok(Self(roles))
    }

    pub(crate) fn allow(&self, right: Right) -> bool {
        self.0.iter().any(|role| role.allows(right))
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, role) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { " " })?;
            f.write_str(role.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Right, Role, Roles};

    #[test]
    fn every_pair_of_role_and_right_has_the_answer_of_this_table() {
        let table: String = Role::ALL
            .into_iter()
            .map(|role| {
                let rights = Right::ALL.into_iter().filter(|right| role.allows(*right));
                let rights: Vec<_> = rights.map(|right| format!("{right:?}")).collect();
                format!("{}: {}\n", role.as_str(), rights.join(" "))
            })
            .collect();
        insta::assert_snapshot!(table, @r"
        runner: Ask SeeOwn
        auditor: SeeOwn SeeTenant Audit
        policy-author: SeeOwn SeeTenant ChangePolicy
        approver: SeeOwn SeeTenant Answer WithdrawLeave
        admin: SeeOwn SeeTenant Audit WithdrawLeave HandOutTokens ChangePolicy
        ");
    }

    #[test]
    fn roles_are_read_as_they_are_spelled_and_an_empty_list_is_none() {
        let roles = Roles::parse(["admin", "runner", "admin"]).expect("roles");
        assert_eq!(roles.to_string(), "runner admin");
        assert_eq!(Roles::parse(roles.to_string().split(' ')), Ok(roles));
        for wrong in [vec![], vec!["root"], vec!["runner", ""], vec!["Runner"]] {
            assert!(Roles::parse(wrong.clone()).is_err(), "{wrong:?}");
        }
    }
}

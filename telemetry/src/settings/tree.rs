//! Settings before they have types: a tree of values that know where they came from. It does not know which keys exist.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::{Origin, PREFIX, SettingsError, pem};

/// One value and its source.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// The shapes a value can have.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    /// A variable's text, whose type is that of its key; `items` are its parts between commas, for a key with a list.
    Untyped {
        text: String,
        items: Vec<Node>,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map; `origin` is the key's.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) origin: Origin,
    pub(super) node: Node,
}

impl Node {
    /// A map without keys.
    pub(super) fn empty(origin: Origin) -> Self {
        Self { value: Value::Map(Vec::new()), origin }
    }

    /// Sets the key that `variable` names.
    pub(super) fn overlay(&mut self, variable: &str, text: &str) -> Result<(), SettingsError> {
        let origin = Origin::Environment(variable.into());
        let path: Vec<String> =
            variable.strip_prefix(PREFIX).unwrap_or_default().split("__").map(str::to_lowercase).collect();
        let refused =
            |reason: &str| SettingsError { key: path.join("."), origin: origin.clone(), reason: reason.to_owned() };
        if path.iter().any(String::is_empty) {
            return Err(SettingsError { key: String::new(), ..refused("does not name a key") });
        }
        let value = match path.last() {
            Some(key) if pem::is_file_key(key) && pem::is_pem(text) => {
                let file = pem::as_file(text).map_err(|error| refused(&format!("cannot be kept: {error}")))?;
                untyped(&file, Vec::new())
            }
            _ => parse_variable(text, &origin).map_err(|reason| refused(&reason))?,
        };
        let mut at = self;
        for key in &path {
            at = at.child_or_new(key, &origin).ok_or_else(|| refused("goes into a key that holds a plain value"))?;
        }
        *at = Node { value, origin };
        Ok(())
    }

    /// Where the value at `path` (keys and list indices with dots) came from; of its nearest parent if it has none.
    pub(super) fn origin_of(&self, path: &str) -> Origin {
        let (mut at, mut path) = (self, path);
        while let Some((child, rest)) = at.child(path) {
            (at, path) = (child, rest);
        }
        // The root's own origin is the file as a whole: a value that stands nowhere in it is a default.
        if std::ptr::eq(at, self) { Origin::Default } else { at.origin.clone() }
    }

    /// What the path's beginning names, and the rest of the path. A key may itself have dots.
    fn child<'p>(&self, path: &'p str) -> Option<(&Node, &'p str)> {
        match &self.value {
            Value::Map(entries) => entries.iter().find_map(|entry| {
                let rest = path.strip_prefix(entry.key.as_str()).filter(|_| !entry.key.is_empty())?;
                let rest = if rest.is_empty() { Some("") } else { rest.strip_prefix('.') };
                rest.map(|rest| (&entry.node, rest))
            }),
            Value::List(items) => {
                let (index, rest) = path.split_once('.').unwrap_or((path, ""));
                items.get(index.parse::<usize>().ok()?).map(|item| (item, rest))
            }
            _ => None,
        }
    }

    fn child_or_new(&mut self, key: &str, origin: &Origin) -> Option<&mut Node> {
        if matches!(self.value, Value::Null) {
            self.value = Value::Map(Vec::new());
        }
        let Value::Map(entries) = &mut self.value else { return None };
        let index = entries.iter().position(|entry| entry.key == key).unwrap_or_else(|| {
            let node = Node { value: Value::Null, origin: origin.clone() };
            entries.push(Entry { key: key.to_owned(), origin: origin.clone(), node });
            entries.len() - 1
        });
        entries[index].origin = origin.clone();
        Some(&mut entries[index].node)
    }
}

/// Parses a settings file; the root is a map.
pub(super) fn parse_file(path: &Path, text: &str) -> Result<Node, SettingsError> {
    let path: Arc<Path> = path.into();
    let in_line = |line: u64, reason: String| SettingsError {
        key: String::new(),
        origin: Origin::File { path: path.clone(), line },
        reason,
    };
    let parsed = parse_yaml(text).map_err(|(line, reason)| in_line(line, reason))?;
    let line = parsed.referenced.line();
    match parsed.into_node(&|line| Origin::File { path: path.clone(), line }) {
        Node { value: Value::Null, origin } => Ok(Node::empty(origin)),
        node @ Node { value: Value::Map(_), .. } => Ok(node),
        _ => Err(in_line(line, "settings are a map of keys".to_owned())),
    }
}

/// A variable that begins like a YAML collection is one; any other stays text until a type asks for it.
fn parse_variable(text: &str, origin: &Origin) -> Result<Value, String> {
    if !text.trim_start().starts_with(['[', '{']) {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let items = items.map(|item| Node { value: untyped(item, Vec::new()), origin: origin.clone() }).collect();
        return Ok(untyped(text, items));
    }
    let parsed = parse_yaml(text).map_err(|(_, reason)| reason)?;
    Ok(parsed.into_node(&|_| origin.clone()).value)
}

fn untyped(text: &str, items: Vec<Node>) -> Value {
    Value::Untyped { text: text.to_owned(), items }
}

fn parse_yaml(text: &str) -> Result<Spanned<Raw>, (u64, String)> {
    // Snippets would quote the lines around an error, and with them perhaps a secret.
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        (line, error.without_snippet().to_string())
    })
}

/// The parser's view of a value, before origins are attached.
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

trait IntoNode {
    fn into_node(self, origin: &dyn Fn(u64) -> Origin) -> Node;
}

impl IntoNode for Spanned<Raw> {
    fn into_node(self, origin: &dyn Fn(u64) -> Origin) -> Node {
        let value = match self.value {
            Raw::Scalar(value) => value,
            Raw::List(items) => Value::List(items.into_iter().map(|item| item.into_node(origin)).collect()),
            Raw::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, node)| Entry {
                        origin: origin(key.referenced.line()),
                        key: key.value,
                        node: node.into_node(origin),
                    })
                    .collect(),
            ),
        };
        Node { value, origin: origin(self.referenced.line()) }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> de::Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Bool(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Unsigned(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(u64::try_from(value).map_or(Value::Signed(value), Value::Unsigned)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Text(value.to_owned())))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

//! JSON Schema, as far as the API's document uses it: values that fit, values that nearly fit, and whether one fits.
//!
//! Apart from the test that uses it. It was written for the test alone, so that what checks the document shares nothing
//! with what makes it.

use serde_json::{Value, json};

/// How deep values are made.
const DEEPEST: usize = 12;

/// The named schemas of a document.
pub(crate) struct Shapes<'a>(&'a Value);

impl<'a> Shapes<'a> {
    pub(crate) fn of(document: &'a Value) -> Self {
        Self(&document["components"]["schemas"])
    }

    fn named(&self, reference: &str) -> &'a Value {
        let name = reference.rsplit('/').next().expect("a name");
        self.0
            .get(name)
            .unwrap_or_else(|| panic!("no schema `{name}`"))
    }

    /// Why `value` does not fit `schema`; `None`: it does.
    pub(crate) fn misfit(&self, schema: &Value, value: &Value) -> Option<String> {
        if let Some(reference) = schema["$ref"].as_str()
            && let Some(why) = self.misfit(self.named(reference), value)
        {
            return Some(why);
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(choices) = schema[key].as_array() {
                let why: Vec<_> = choices
                    .iter()
                    .filter_map(|it| self.misfit(it, value))
                    .collect();
                if why.len() == choices.len() {
                    return Some(format!("none of {key}: {}", why.join("; ")));
                }
            }
        }
        let wrong = |what: &str| Some(format!("{value} {what} of {schema}"));
        if !fits_type(&schema["type"], value) {
            return wrong("has not the type");
        }
        if schema.get("const").is_some_and(|only| only != value) {
            return wrong("is not the value");
        }
        if schema["enum"]
            .as_array()
            .is_some_and(|values| !values.contains(value))
        {
            return wrong("is not among the values");
        }
        let items = value.as_array().into_iter().flatten();
        if let Some(tuple) = schema["prefixItems"].as_array() {
            for (schema, item) in tuple.iter().zip(items) {
                if let Some(why) = self.misfit(schema, item) {
                    return Some(why);
                }
            }
        } else if schema["items"].is_object() {
            for item in items {
                if let Some(why) = self.misfit(&schema["items"], item) {
                    return Some(why);
                }
            }
        }
        self.misfit_of_object(schema, value)
    }

    fn misfit_of_object(&self, schema: &Value, value: &Value) -> Option<String> {
        let object = value.as_object()?;
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().expect("a name");
            if !object.contains_key(name) {
                return Some(format!("`{name}` is missing in {value}"));
            }
        }
        for (name, value) in object {
            let why = match schema["properties"].get(name) {
                Some(schema) => self.misfit(schema, value),
                None if schema["additionalProperties"] == false => {
                    Some(format!("`{name}` is not known"))
                }
                None => self.misfit(&schema["additionalProperties"], value),
            };
            if why.is_some() {
                return why;
            }
        }
        None
    }
}

fn fits_type(wanted: &Value, value: &Value) -> bool {
    if let Some(types) = wanted.as_array() {
        return types.iter().any(|it| fits_type(it, value));
    }
    match wanted.as_str() {
        None => true,
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some(other) => panic!("`{other}` is no type"),
    }
}

/// Chance that can be repeated: `SplitMix64`.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to `end`, without it.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).expect("a length")).expect("small")
    }

    pub(crate) fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    pub(crate) fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }

    /// The value of a parameter: mostly one that fits.
    pub(crate) fn parameter(&mut self, schema: &Value) -> String {
        if self.one_in(5) {
            return self.text();
        }
        if let Some(values) = schema["enum"].as_array() {
            return self.pick(values).as_str().expect("a text").to_owned();
        }
        match (schema["type"].as_str(), schema["format"].as_str()) {
            (Some("integer"), _) => (self.below(9)).to_string(),
            (_, Some("uuid")) => self.uuid(),
            (_, Some("date-time")) => "2026-01-31T00:00:00Z".to_owned(),
            _ => match schema["pattern"].as_str() {
                Some("^wait=[0-9]{1,4}$") => format!("wait={}", self.below(3)),
                Some("^[0-9]{1,18}$") => self.below(20).to_string(),
                _ => self.text(),
            },
        }
    }

    fn uuid(&mut self) -> String {
        format!("01980000-0000-7000-8000-{:012x}", self.next() >> 16)
    }

    fn text(&mut self) -> String {
        const TEXTS: &[&str] = &[
            "",
            "a",
            "0",
            "-1",
            "%",
            "../..",
            "\u{0}",
            "\u{202e}",
            "'; --",
            "git push",
            "\"*\" OR",
            "NEAR(",
            "🙂",
            "9223372036854775808",
            "true",
            "null",
            "{id}",
            "a\nb",
            "*",
        ];
        match self.below(3) {
            0 => "x".repeat(self.below(700)),
            1 => format!("{}{}", self.pick(TEXTS), self.pick(TEXTS)),
            _ => (*self.pick(TEXTS)).to_owned(),
        }
    }

    /// A value that fits `schema`, as far as that says.
    pub(crate) fn value(&mut self, shapes: &Shapes<'_>, schema: &Value, depth: usize) -> Value {
        if depth > DEEPEST {
            return Value::Null;
        }
        if let Some(only) = schema.get("const") {
            return only.clone();
        }
        if let Some(values) = schema["enum"].as_array() {
            return self.pick(values).clone();
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(choices) = schema[key].as_array() {
                let chosen = self.pick(choices).clone();
                let mut value = self.value(shapes, &chosen, depth + 1);
                if schema["properties"].is_object() {
                    self.properties(shapes, schema, depth, &mut value);
                }
                return value;
            }
        }
        let mut value = match schema["$ref"].as_str() {
            Some(reference) => self.value(shapes, shapes.named(reference), depth + 1),
            None => self.plain(shapes, schema, depth),
        };
        self.properties(shapes, schema, depth, &mut value);
        value
    }

    fn plain(&mut self, shapes: &Shapes<'_>, schema: &Value, depth: usize) -> Value {
        const KINDS: &[&str] = &["null", "string", "integer", "object"];
        let kind = match (schema["type"].as_array(), schema["type"].as_str()) {
            (Some(kinds), _) => self.pick(kinds).as_str().expect("a type").to_owned(),
            (None, Some(kind)) => kind.to_owned(),
            (None, None) => (*self.pick(KINDS)).to_owned(),
        };
        match kind.as_str() {
            "boolean" => json!(self.one_in(2)),
            "integer" | "number" => match self.below(4) {
                0 => json!(u64::MAX),
                _ => json!(self.below(300)),
            },
            "string" => match (schema["format"].as_str(), schema["pattern"].as_str()) {
                (Some("uuid"), _) => json!(self.uuid()),
                (Some("uri"), _) => json!("https://hooks.example/x"),
                (Some("date-time"), _) => json!("2030-01-31T00:00:00Z"),
                (_, Some("^/")) => json!("/srv/app"),
                (_, Some(sha)) if sha.contains("sha256") => {
                    json!(format!("sha256:{:064x}", self.next()))
                }
                _ => json!(self.text()),
            },
            "array" => {
                let many = self.below(4);
                (0..many)
                    .map(|_| self.value(shapes, &schema["items"], depth + 1))
                    .collect()
            }
            "object" => json!({}),
            _ => Value::Null,
        }
    }

    fn properties(&mut self, shapes: &Shapes<'_>, schema: &Value, depth: usize, value: &mut Value) {
        let (Some(properties), Some(object)) =
            (schema["properties"].as_object(), value.as_object_mut())
        else {
            return;
        };
        let required = schema["required"].as_array();
        for (name, schema) in properties {
            let must = required.is_some_and(|names| names.iter().any(|it| it == name));
            if must || self.one_in(2) {
                object.insert(name.clone(), self.value(shapes, schema, depth + 1));
            }
        }
    }

    /// Changes `value` in one place, so that it fits no more, or nearly.
    pub(crate) fn spoil(&mut self, value: &mut Value) {
        let stop = self.one_in(4);
        if let Some(map) = value.as_object_mut().filter(|map| !stop && !map.is_empty()) {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = self.pick(&keys).clone();
            return match self.below(3) {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert(format!("{key}_"), json!(1))),
                _ => self.spoil(&mut map[&key]),
            };
        }
        if let Some(items) = value
            .as_array_mut()
            .filter(|items| !stop && !items.is_empty())
        {
            let at = self.below(items.len());
            return self.spoil(&mut items[at]);
        }
        let values = [
            json!(null),
            json!(-1),
            json!(1e308),
            json!("\u{0}"),
            json!([[]]),
            json!({"a": {}}),
            json!(true),
            json!("x".repeat(70_000)),
        ];
        *value = self.pick(&values).clone();
    }
}

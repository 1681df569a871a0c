//! `resource.Quantity`: exact decimal amounts with a suffix.

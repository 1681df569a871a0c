//! YAML bodies as JSON, the way `sigs.k8s.io/yaml` turns them: bounded.

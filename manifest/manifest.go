// Package manifest holds the signed documents that travel between sites.
package manifest

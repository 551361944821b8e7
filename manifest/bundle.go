package manifest

import (
	"davit/store/pack"
)

// Kinds of bundles.
const (
	KindReleases = "releases" // outward: releases and what they need
	KindResults  = "results"  // back: results and receipts
)

// Kinds of documents a bundle carries.
const (
	DocumentRelease = "release"
	DocumentReceipt = "receipt"
	DocumentResult  = "result"
)

// ModeSealed says that everything in the bundle lies inside age.
const ModeSealed = "sealed"

// Bundle describes one shipment to one peer. Sender, recipient and serial
// stand inside the signature, so that a bundle cannot be passed on as
// another's, replayed unseen or swapped for one of the same serial.
type Bundle struct {
	Version   int              `json:"version"`
	ID        BundleID         `json:"id"`
	From      string           `json:"from"`
	To        string           `json:"to"`
	FromKey   Digest           `json:"fromKey"` // Card.KeyDigest of the sender
	ToKey     Digest           `json:"toKey"`   // Card.KeyDigest of the recipient
	Serial    int64            `json:"serial"`
	Previous  Digest           `json:"previous"` // of the bundle document before it; zero for serial 1 alone
	Created   Time             `json:"created"`
	Kind      string           `json:"kind"`
	Mode      string           `json:"mode"`
	Documents []BundleDocument `json:"documents,omitempty"`
	Base      []BundleBase     `json:"base,omitempty"` // releases the receiver must hold already
	Packs     []BundlePack     `json:"packs,omitempty"`
	Values    []BundleValue    `json:"values,omitempty"`
}

// BundleDocument names a document that travels in the bundle.
type BundleDocument struct {
	Kind   string `json:"kind"`
	Digest Digest `json:"digest"`
}

// BundleBase names a release whose chunks the bundle leaves out.
type BundleBase struct {
	Project string `json:"project"`
	Version string `json:"version"`
	Release Digest `json:"release"`
}

// BundlePack names a pack in the payload; packs lie there in this order.
type BundlePack struct {
	Name pack.Name `json:"name"`
	Size int64     `json:"size"`
}

// BundleValue is a parameter value sealed to the recipient.
type BundleValue struct {
	Project     string `json:"project"`
	Environment string `json:"environment"`
	Name        string `json:"name"`
	Sealed      string `json:"sealed"`
}

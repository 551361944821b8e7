// Package manifest holds the signed documents that travel between sites, and
// the names, keys and words that stand in them.
//
//	Card      introduces a site: its name and public keys, compared by words
//	Release   what a version of a project consists of and how it is deployed
//	Bundle    one shipment to one peer: what it carries and what it builds on
//	Receipt   the answer to a bundle: arrived, or what is missing, or refused
//	Result    what came of a deployment
//	Entry     one link of a site's audit log
//
// A [Document] becomes bytes in one way only, canonical JSON, and is known by
// the SHA-256 of those bytes, its [Digest]. [Sign] puts it into a DSSE
// [Envelope] with an Ed25519 and an ML-DSA-65 signature; [Open] gives it back
// when both are those of the expected signer:
//
//	document ▸ validate ▸ canonical JSON ▸ sign twice ▸ envelope
//	envelope ▸ kind ▸ both signatures ▸ canonical JSON ▸ validate ▸ document
//
// Nothing is decoded before it is verified. [Peek] alone breaks that rule, for
// learning who claims to have signed; [Inspect] shows an envelope to a person.
//
// The files of a directory tree are not in its release but in a listing, JSON
// lines that [TreeWriter] writes and [TreeReader] reads one at a time.
//
// [SiteKeys] are the secrets of a site. Names that people give are checked by
// CheckSite, CheckProject and the like, paths by [CheckPath], and versions are
// put in order by [CompareVersions].
//
// FORMAT.md has every field of every format. All of it is read from media that
// nobody vouches for, so every length is bounded before anything is allocated,
// and what is not known is refused.
package manifest

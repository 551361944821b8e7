// Package transfer holds davit's verbs, one file each: what a site does with
// releases, bundles, receipts and results. It ties the store, the signed
// documents and the index together, and knows the order in which they are
// written; it knows no flags, no config files and no terminals.
//
// # Order of commits
//
// Everything that changes a site's state goes the same way:
//
//	objects (packs, documents) ▸ audit entry in the bucket ▸ index ▸ report
//
// The entry is the moment at which something has happened. Before it there
// are only objects that nothing refers to; after it the index may lag behind,
// and catches up from the bucket the next time the site is opened. Entries are
// numbered without gaps under immutable names, so that of two processes that
// act at once one writes entry n and the other sees it, catches up and writes
// entry n+1.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"davit/internal/durable"
	"davit/manifest"
	"davit/manifest/index"
	"davit/store"
	"davit/store/bucket"
)

// Options say where a site's things are and on whose behalf it acts.
type Options struct {
	Name    string             // of the site; Create only
	Bucket  bucket.Bucket      // the site's store
	Index   string             // path of the SQLite file
	WorkDir string             // for locks, temporary files, kept deltas and volumes, work folders of deployments; made if needed
	Keys    *manifest.SiteKeys // the site's own
	Actor   string             // who acts, for the audit log, such as "ann@buildhost"
	Davit   string             // version of the program

	Recovery []string         // age recipients of recovery keys; Create only, later the card tells
	Now      func() time.Time // time.Now if nil
	Log      *slog.Logger     // nothing is logged if nil
	Workers  int              // one a processor if 0

	rebuild bool // the index is being made anew, by a caller that has locked the site
}

// Site is an open davit installation.
type Site struct {
	Card  *manifest.Card
	Store *store.Store
	Index *index.Index

	bucket bucket.Bucket
	keys   *manifest.SiteKeys
	actor  string
	work   string
	now    func() time.Time
	log    *slog.Logger

	verbs sync.RWMutex  // read-held by verbs that write, held by one that must run alone
	lock  *durable.Lock // against other processes; changed only with verbs held
}

// Kinds of documents in the store, as the first part of their names.
const (
	entriesDir  = "entries/"
	cardsDir    = "cards/"
	releasesDir = "releases/"
	bundlesDir  = "bundles/"
	receiptsDir = "receipts/"
	resultsDir  = "results/"

	ownCard = cardsDir + "site"
)

// lockName is the file that a verb holds shared, and one that must run alone
// exclusively.
const lockName = "site.lock"

var (
	// ErrNotFound: there is no such thing.
	ErrNotFound = index.ErrNotFound
	// ErrBusy: another davit process does something that allows no other.
	ErrBusy = errors.New("another davit process is at work here; try again when it has ended")
)

// Create makes a new site: an empty store, an index, and the card that
// introduces it to others. The keys must have been saved before.
func Create(ctx context.Context, o Options) (*Site, error) {
	now := o.Now
	if now == nil {
		now = time.Now
	}
	card := &manifest.Card{Version: 1, Name: o.Name, Signing: o.Keys.Signing.Public(),
		Recipients: append([]string{o.Keys.Recipient()}, o.Recovery...),
		Created:    manifest.NewTime(now()), Davit: o.Davit,
		Delta: deltaVersion, Encoders: ownEncoders()}
	envelope, err := manifest.Sign(o.Keys.Signing, card)
	if err != nil {
		return nil, fmt.Errorf("create site: %w", err)
	}
	s, err := prepare(ctx, o, card)
	if err != nil {
		return nil, fmt.Errorf("create site: %w", err)
	}
	keys, err := o.Keys.PackKeys(o.Recovery...)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("create site: %w", err)
	}
	s.Store, err = store.Create(ctx, o.Bucket, s.Index, store.Options{Keys: keys, Workers: o.Workers, TempDir: s.work, Log: s.log})
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("create site: %w", err)
	}
	data, err := envelope.Marshal()
	if err == nil {
		err = s.Store.PutDocument(ctx, ownCard, data)
	}
	if err == nil {
		err = s.record(ctx, manifest.Fact{SiteCreated: &manifest.SiteCreated{Name: o.Name, Fingerprint: card.Fingerprint()}})
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("create site: %w", err)
	}
	return s, nil
}

// Open opens a site and brings its index up to date with its bucket.
func Open(ctx context.Context, o Options) (*Site, error) {
	s, err := open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open site: %w", err)
	}
	return s, nil
}

func open(ctx context.Context, o Options) (*Site, error) {
	s, err := prepare(ctx, o, nil)
	if err != nil {
		return nil, err
	}
	// The card is sealed to the site's own key; it tells the recovery keys.
	keys, err := o.Keys.PackKeys()
	if err == nil {
		s.Store, err = store.Open(ctx, o.Bucket, s.Index, store.Options{Keys: keys, Workers: o.Workers, TempDir: s.work, Log: s.log})
	}
	if err == nil {
		s.Card, err = s.readCard(ctx)
	}
	if err == nil && len(s.Card.Recipients) > 1 {
		if keys, err = o.Keys.PackKeys(s.Card.Recipients[1:]...); err == nil {
			s.Store, err = store.Open(ctx, o.Bucket, s.Index, store.Options{Keys: keys, Workers: o.Workers, TempDir: s.work, Log: s.log})
		}
	}
	if err == nil && !o.rebuild {
		err = s.indexLost(ctx)
	}
	if err == nil {
		_, err = s.CatchUp(ctx)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// indexLost is an error when the index is empty and the store is not. Catching
// up would find the log again, but not the packs.
func (s *Site) indexLost(ctx context.Context) error {
	head, err := s.Index.Head(ctx)
	if err != nil || head.Sequence > 0 {
		return err
	}
	there, err := s.Store.HasDocument(ctx, entryName(1))
	if err == nil && there {
		err = fmt.Errorf("%s is empty, though the store is not: %w", s.Index.Path(), index.ErrDamaged)
	}
	return err
}

// prepare opens what a site needs besides its store.
func prepare(ctx context.Context, o Options, card *manifest.Card) (*Site, error) {
	s := &Site{Card: card, bucket: o.Bucket, keys: o.Keys, actor: o.Actor, work: o.WorkDir, now: o.Now, log: o.Log}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(s.work, 0o700); err != nil {
		return nil, fmt.Errorf("make work folder: %w", err)
	}
	var err error
	if !o.rebuild {
		if err := sweepWork(s.work); err != nil {
			return nil, err
		}
		if s.lock, err = durable.LockShared(ctx, filepath.Join(s.work, lockName)); err != nil {
			return nil, err
		}
	}
	if s.Index, err = index.Open(ctx, o.Index, s.log); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// sweepWork removes the temporary files of runs that were killed, some of
// which hold content in the clear, unless another process is at work.
func sweepWork(work string) error {
	lock, ok, err := durable.TryLockExclusive(filepath.Join(work, lockName))
	if err != nil || !ok {
		return err
	}
	defer lock.Unlock()
	for _, dir := range []string{work, filepath.Join(work, deltasDir)} {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !isTemporary(e.Name()) || !e.Type().IsRegular() {
				continue
			}
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove what a broken-off run left: %w", err)
			}
		}
	}
	return nil
}

// Close lets go of everything but the bucket.
func (s *Site) Close() error {
	var errs []error
	if s.Store != nil {
		errs = append(errs, s.Store.Close())
	}
	if s.Index != nil {
		errs = append(errs, s.Index.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Unlock())
	}
	return errors.Join(errs...)
}

// Name returns the site's name.
func (s *Site) Name() string { return s.Card.Name }

func (s *Site) readCard(ctx context.Context) (*manifest.Card, error) {
	data, err := s.Store.Document(ctx, ownCard)
	if err != nil {
		return nil, err
	}
	card, _, err := manifest.OpenCard(data)
	if err != nil {
		return nil, fmt.Errorf("read the site's own card: %w", err)
	}
	if !card.Signing.Equal(s.keys.Signing.Public()) {
		return nil, fmt.Errorf("the signing key is not that of site %q: this store belongs to other keys", card.Name)
	}
	return card, nil
}

// CardEnvelope returns the site's card as it is handed to peers.
func (s *Site) CardEnvelope(ctx context.Context) ([]byte, error) {
	return s.Store.Document(ctx, ownCard)
}

// alone exchanges the shared lock for an exclusive one until the returned
// function is called, and keeps other verbs of this Site out as well.
func (s *Site) alone(ctx context.Context) (func() error, error) {
	if !s.verbs.TryLock() {
		return nil, ErrBusy
	}
	path := filepath.Join(s.work, lockName)
	shared := func() (err error) {
		defer s.verbs.Unlock()
		s.lock, err = durable.LockShared(context.WithoutCancel(ctx), path)
		return err
	}
	if s.lock != nil {
		if err := s.lock.Unlock(); err != nil {
			s.verbs.Unlock()
			return nil, err
		}
		s.lock = nil
	}
	lock, ok, err := durable.TryLockExclusive(path)
	if err == nil && !ok {
		err = ErrBusy
	}
	if err != nil {
		return nil, errors.Join(err, shared())
	}
	return func() error { return errors.Join(lock.Unlock(), shared()) }, nil
}

// verb keeps alone out until the returned function is called. Verbs that write
// to the store begin with it; none calls another.
func (s *Site) verb() func() {
	s.verbs.RLock()
	return s.verbs.RUnlock
}

// exclusive holds a named lock against other processes of this site, waiting
// for it.
func (s *Site) exclusive(ctx context.Context, name string) (func(), error) {
	lock, err := durable.LockExclusive(ctx, filepath.Join(s.work, name+".lock"))
	if err != nil {
		return nil, err
	}
	return func() { lock.Unlock() }, nil
}

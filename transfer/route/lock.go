package route

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"davit/internal/durable"
)

// holder is who holds a lock, for those who want it.
type holder struct {
	Actor   string    `json:"actor"`
	Process int       `json:"process"`
	Since   time.Time `json:"since"`
}

// hold takes the lock on the inbox for this site, or returns a *BusyError.
//
// The lock lies in the site's work folder: on a share locks are unreliable and
// an open file keeps the share from being unmounted, and another site that
// watches the same folder takes other bundles from it.
func (s *station) hold() error {
	if s.lock != nil {
		return nil
	}
	work := s.w.cfg.Work
	if err := durable.MkdirAll(work, 0o700); err != nil {
		return err
	}
	folder := s.folder()
	if real, err := filepath.EvalSymlinks(folder); err == nil {
		folder = real
	}
	if s.inbox == "" {
		folder += "\x00" + s.links[0].Peer // who only sends is in nobody else's way
	}
	sum := sha256.Sum256([]byte(folder))
	path := filepath.Join(work, fmt.Sprintf("watch-%x.lock", sum[:8]))
	lock, ok, err := durable.TryLockExclusive(path)
	if err != nil {
		return err
	}
	if !ok {
		return &BusyError{s.folder(), readHolder(path)}
	}
	s.lock = lock
	// The holder stands beside the lock: Windows lets nobody read a locked file.
	data, err := json.Marshal(holder{s.w.cfg.Actor, os.Getpid(), s.w.cfg.Now().UTC().Truncate(time.Second)})
	if err == nil {
		err = durable.WriteFile(holderFile(path), data, 0o600)
	}
	if err != nil {
		return errors.Join(err, s.letGo())
	}
	return nil
}

func (s *station) letGo() error {
	if s.lock == nil {
		return nil
	}
	err := s.lock.Unlock()
	s.lock = nil
	return err
}

func holderFile(lock string) string { return lock + ".holder" }

func readHolder(lock string) string {
	data, err := os.ReadFile(holderFile(lock))
	var h holder
	if err == nil {
		err = json.Unmarshal(data, &h)
	}
	if err != nil {
		return "another davit process"
	}
	return fmt.Sprintf("%s, process %d, since %s", h.Actor, h.Process, h.Since.Local().Format("2006-01-02 15:04"))
}

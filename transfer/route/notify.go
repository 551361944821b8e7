package route

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// How long a folder must be still before a change in it is looked at, and how
// long that may be put off.
const (
	stillFor = 100 * time.Millisecond
	putOff   = time.Second
)

// ear hears from the system what changes in a folder. It only ever makes a look
// come sooner; the full scans do without it.
type ear struct {
	watcher *fsnotify.Watcher
	path    string
	folder  os.FileInfo // the one that is listened to; nil for none
	last    string      // temporary name that was just given up
	news    news
	deaf    error // why nothing is heard, for the log
}

func newEar(path string) *ear {
	e := &ear{path: path, news: noNews()}
	if path == "" {
		return e
	}
	e.watcher, e.deaf = fsnotify.NewWatcher()
	return e
}

func noNews() news { return news{renamed: map[string]bool{}, written: map[string]bool{}} }

// listen begins to listen to the folder, or to the one that has come in its
// place: a share that returns is another folder under the same path.
func (e *ear) listen() {
	if e.watcher == nil {
		return
	}
	info, err := os.Stat(e.path)
	if err == nil && e.folder != nil && os.SameFile(e.folder, info) {
		return
	}
	if e.folder != nil {
		_ = e.watcher.Remove(e.path) // gone with the folder, as a rule
		e.folder = nil
	}
	if err != nil {
		return
	}
	if e.deaf = e.watcher.Add(e.path); e.deaf == nil {
		e.folder = info
	}
}

func (e *ear) events() <-chan fsnotify.Event {
	if e.watcher == nil {
		return nil
	}
	return e.watcher.Events
}

func (e *ear) errors() <-chan error {
	if e.watcher == nil {
		return nil
	}
	return e.watcher.Errors
}

// hear takes in one event and reports whether it is worth a look.
func (e *ear) hear(ev fsnotify.Event) bool {
	name := filepath.Base(ev.Name)
	volume := looksLikeVolume(name) && !looksTemporary(name)
	gaveUp := e.last
	e.last = ""
	switch {
	case ev.Has(fsnotify.Rename) && looksTemporary(name):
		// The new name comes with the next event.
		e.last = name
		return false
	case ev.Has(fsnotify.Create) && volume:
		delete(e.news.written, name)
		if gaveUp != "" {
			e.news.renamed[name] = true
		}
		return true
	case ev.Has(fsnotify.Write) && volume:
		e.news.written[name] = true
		return false // it grows; that it stopped is seen by the scans
	case ev.Has(fsnotify.Create) || ev.Has(fsnotify.Write):
		// A temporary name must be seen before it is given up.
		return looksLikeMarker(name) || ev.Has(fsnotify.Create) && looksTemporary(name)
	}
	return false
}

// take returns the news since the last look.
func (e *ear) take() news {
	n := e.news
	e.news = noNews()
	return n
}

// gather hears events until the folder is still for a moment.
func (e *ear) gather(ctx context.Context) {
	end := time.After(putOff)
	for {
		still := time.NewTimer(stillFor)
		select {
		case <-ctx.Done():
		case <-end:
		case <-still.C:
		case ev, ok := <-e.events():
			still.Stop()
			if ok {
				e.hear(ev)
				continue
			}
		}
		still.Stop()
		return
	}
}

func (e *ear) close() {
	if e.watcher != nil {
		_ = e.watcher.Close() // nothing was written through it
	}
}

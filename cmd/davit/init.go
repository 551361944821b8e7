package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"
	"github.com/urfave/cli/v2"

	"davit/internal/durable"
	"davit/manifest"
	"davit/store/bucket"
	"davit/transfer"
)

func (p *program) initCommand() *cli.Command {
	return &cli.Command{Name: "init", Usage: "make a site here: its keys, its store and its card", ArgsUsage: "NAME",
		Description: "Makes the folder of a site (default ~/.davit) and never overwrites anything. Broken off, it can be run again.\n" +
			"Keep a copy of the keys folder off this machine: without it nothing in the store can be read.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Usage: "`FOLDER` of the site (default ~/.davit)"},
			&cli.StringSliceFlag{Name: "recovery", Usage: "`FILE` with the age recipient of a recovery key kept off line; may be given again"},
			&cli.BoolFlag{Name: "passphrase", Usage: "protect the keys by a passphrase (asked for, or from the file named in " + passphraseFile + ")"},
		},
		Action: p.initSite}
}

// unfinishedName marks a site whose init has not ended. Until the config is
// there nobody has used it, and all but the keys may be made again.
const unfinishedName = "init.unfinished"

const configText = `# davit site %s. Paths are relative to this file.
store: store
index: index.sqlite
keys: keys
work: work
# actor: ann@buildhost        # who acts, for the audit log; default user@host
# routes:                     # how bundles reach a peer, for davit promote
#   prod:
#     folder: /media/stick
#     volume_size: 3.9GiB
#     parity: 0.1             # a tenth of the volumes may be lost, or of each be damaged
#     assume_delivered: false # count exported bundles as arrived (no way back)
#     full: false             # count nothing as held by the peer
#     delta:
#       off: false            # true: send packages as chunks alone
#       budget: 10m           # for proving deltas, a GiB of package; at least a minute
`

func (p *program) initSite(c *cli.Context) error {
	args := c.Args().Slice()
	name := args[0]
	if err := manifest.CheckSite(name); err != nil {
		return usage(err)
	}
	dir, err := initFolder(c)
	if err != nil {
		return err
	}
	recovery, err := readRecipients(c.StringSlice("recovery"))
	if err != nil {
		return err
	}
	if err := prepareFolder(dir); err != nil {
		return err
	}
	keys, err := p.makeKeys(filepath.Join(dir, "keys"), c.Bool("passphrase"))
	if err != nil {
		return err
	}
	actor := c.String("actor")
	if actor == "" {
		actor = defaultActor()
	}
	card, cardPath, err := p.makeSite(c.Context, dir, transfer.Options{Name: name, Keys: keys, Recovery: recovery, Actor: actor})
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, configName), fmt.Appendf(nil, configText, name), 0o600); err != nil {
		return fmt.Errorf("write config: %w", err)
	}
	if err := os.Remove(filepath.Join(dir, unfinishedName)); err != nil {
		return fmt.Errorf("finish init: %w", err)
	}
	return p.result(struct {
		Site        string `json:"site"`
		Folder      string `json:"folder"`
		Card        string `json:"card"`
		Fingerprint string `json:"fingerprint"`
		Words       string `json:"words"`
	}{name, dir, cardPath, card.Fingerprint().String(), card.Fingerprint().Words()}, func() {
		p.say("Site %s is ready in %s.\n", name, dir)
		p.say("  Its card:        %s", cardPath)
		p.say("  Its fingerprint: %s\n", card.Fingerprint().Words())
		p.say("Next:")
		p.say("  1. Copy %s to a safe place off this machine. Without it nothing stored here can be read.", filepath.Join(dir, "keys"))
		p.say("  2. Give the card to the people of each site you exchange bundles with, and take theirs.")
		p.say("  3. Compare the twelve words by voice, then let the site in. Where releases are made:")
		p.say("       davit%s peer add THEIR-CARD --send releases --accept results", dashC(c, dir))
		p.say("     and where they are deployed:")
		p.say("       davit%s peer add THEIR-CARD --accept releases --send results", dashC(c, dir))
		p.put("%s", cardPath)
	})
}

// dashC is the flag that the next command needs to find this site.
func dashC(c *cli.Context, dir string) string {
	if std, err := homeFolder(); err == nil && std == dir {
		return ""
	}
	if os.Getenv("DAVIT_CONFIG") != "" && !c.IsSet("dir") {
		return ""
	}
	return " -c " + dir
}

func initFolder(c *cli.Context) (string, error) {
	dir := c.String("dir")
	if dir == "" {
		dir = strings.TrimSuffix(c.String("config"), string(filepath.Separator)+configName)
	}
	if dir == "" {
		return homeFolder()
	}
	abs, err := filepath.Abs(dir)
	return abs, usage(err)
}

// prepareFolder makes the folder, or clears what a broken-off init left there.
func prepareFolder(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, configName)); err == nil {
		return failf(exitConflict, "there is a site in %s already; nothing was changed. To make another, choose another folder with --dir", dir)
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := durable.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make folder of the site: %w", err)
		}
	} else if err != nil {
		return fmt.Errorf("look into folder of the site: %w", err)
	}
	mark := filepath.Join(dir, unfinishedName)
	if _, err := os.Lstat(mark); err != nil {
		if len(entries) > 0 {
			return failf(exitConflict, "%s is not empty and is no unfinished site; nothing was changed. Choose another folder with --dir", dir)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			return fmt.Errorf("make folder of the site: %w", err)
		}
		return durable.WriteFile(mark, []byte("davit init has not ended here; run it again\n"), 0o600)
	}
	for _, name := range []string{"store", "work", "index.sqlite", "index.sqlite-wal", "index.sqlite-shm", "index.sqlite.lock"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("clear unfinished site: %w", err)
		}
	}
	return nil
}

// makeKeys makes the site's keys, or takes those that an init before made.
func (p *program) makeKeys(dir string, protect bool) (*manifest.SiteKeys, error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make keys folder: %w", err)
	}
	keys, err := manifest.GenerateSiteKeys()
	if err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	seal := func(b []byte) ([]byte, error) { return b, nil }
	if protect {
		passphrase, err := p.newPassphrase()
		if err != nil {
			return nil, err
		}
		seal = func(b []byte) ([]byte, error) { return manifest.SealWithPassphrase(b, passphrase) }
	}
	for _, k := range []struct {
		name string
		data []byte
	}{{identityFile, keys.MarshalIdentity()}, {signingFile, keys.MarshalSigning()}} {
		path := filepath.Join(dir, k.name)
		// Keys that a broken-off init left are kept, but not without the
		// passphrase that is asked for now.
		plain := k.data
		if left, err := os.ReadFile(path); err == nil {
			if !protect || bytes.HasPrefix(left, []byte("-----BEGIN AGE")) || bytes.HasPrefix(left, []byte("age-encryption.org/")) {
				continue
			}
			plain = left
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("look for key: %w", err)
		}
		data, err := seal(plain)
		if err == nil {
			err = durable.WriteFile(path, data, 0o600)
		}
		if err != nil {
			return nil, fmt.Errorf("write key: %w", err)
		}
	}
	return p.loadKeys(dir)
}

func (p *program) newPassphrase() (string, error) {
	v, ok, err := passphraseFromFile()
	if err != nil {
		return "", err
	}
	if !ok {
		if v, err = p.askSecret("New passphrase for the keys of this site: "); err != nil {
			if is[*usageError](err) {
				return "", usagef("--passphrase needs a terminal to ask on, or a file named in %s", passphraseFile)
			}
			return "", err
		}
		again, err := p.askSecret("The same again: ")
		if err != nil {
			return "", err
		}
		if again != v {
			return "", usagef("the two passphrases differ; nothing was made")
		}
	}
	if v == "" {
		return "", usagef("the passphrase is empty")
	}
	return v, nil
}

// makeSite makes store and index, and puts the card beside them.
func (p *program) makeSite(ctx context.Context, dir string, o transfer.Options) (*manifest.Card, string, error) {
	b, err := bucket.CreateDir(filepath.Join(dir, "store"))
	if err != nil {
		return nil, "", fmt.Errorf("make store: %w", err)
	}
	defer b.Close()
	if err := os.Chmod(b.Path(), 0o700); err != nil {
		return nil, "", fmt.Errorf("make store: %w", err)
	}
	o.Bucket, o.Index, o.WorkDir = b, filepath.Join(dir, "index.sqlite"), filepath.Join(dir, "work")
	o.Davit, o.Now, o.Log = version, now, p.log
	s, err := transfer.Create(ctx, o)
	if err != nil {
		return nil, "", err
	}
	defer s.Close()
	data, err := s.CardEnvelope(ctx)
	if err != nil {
		return nil, "", err
	}
	path := filepath.Join(dir, o.Name+".card.json")
	if err := durable.WriteFile(path, data, 0o644); err != nil {
		return nil, "", fmt.Errorf("write card: %w", err)
	}
	return s.Card, path, nil
}

// readRecipients reads recovery recipients: "age1pq…" lines, or identity files
// whose comment holds one.
func readRecipients(files []string) ([]string, error) {
	var out []string
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, failf(exitUnreachable, "the recovery file %s cannot be read: %v", path, plain(err))
		}
		n := len(out)
		for line := range strings.Lines(string(data)) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "AGE-SECRET-KEY-") || strings.HasPrefix(line, "AGE-PLUGIN-") {
				return nil, usagef("%s holds a secret key. Give its public half instead (age-keygen -y %s), and keep the secret off this machine", path, path)
			}
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if err := manifest.CheckRecipient(line); err != nil {
				if _, classic := age.ParseX25519Recipient(line); classic == nil {
					return nil, usagef("%s holds a classic age recipient; davit wants a post-quantum one: age-keygen -pq", path)
				}
				return nil, usagef("%s: %v", path, err)
			}
			out = append(out, line)
		}
		if len(out) == n {
			return nil, usagef("%s holds no age recipient", path)
		}
	}
	if len(out) > manifest.MaxRecipients-1 {
		return nil, usagef("%d recovery keys are too many; at most %d", len(out), manifest.MaxRecipients-1)
	}
	return out, nil
}

func (p *program) cardCommand() *cli.Command {
	return &cli.Command{Name: "card", Usage: "print this site's card, to hand to peers",
		Flags: []cli.Flag{&cli.StringFlag{Name: "out", Usage: "write it to `FILE` instead; nothing is overwritten"}},
		Action: p.withSite(func(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
			data, err := s.CardEnvelope(ctx)
			if err != nil {
				return fmt.Errorf("read card: %w", err)
			}
			out := c.String("out")
			if out != "" {
				f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
				if errors.Is(err, fs.ErrExist) {
					return failf(exitConflict, "%s exists; the card was not written. Choose another name", out)
				}
				if err == nil {
					_, err = f.Write(data)
					err = errors.Join(err, f.Close())
				}
				if err != nil {
					return fmt.Errorf("write card: %w", err)
				}
			}
			if p.json {
				return p.printJSON(struct {
					Site        string `json:"site"`
					Fingerprint string `json:"fingerprint"`
					Words       string `json:"words"`
					File        string `json:"file,omitempty"`
					Card        string `json:"card"`
				}{s.Name(), s.Card.Fingerprint().String(), s.Card.Fingerprint().Words(), out, string(data)})
			}
			if out == "" {
				if _, err := p.stdout.Write(data); err != nil {
					return fmt.Errorf("print card: %w", err)
				}
			}
			p.say("Card of site %s. Read these words to whoever adds it:\n  %s", s.Name(), s.Card.Fingerprint().Words())
			return nil
		})}
}

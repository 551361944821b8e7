package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"davit/manifest"
	"davit/manifest/index"
	"davit/transfer"
)

func (p *program) statusCommand() *cli.Command {
	return &cli.Command{Name: "status", Usage: "where every project is, here and at the peers",
		Flags:  []cli.Flag{&cli.StringFlag{Name: "project", Usage: "only `PROJECT`"}},
		Action: p.withSite(p.status)}
}

// statusView is the status in JSON.
type statusView struct {
	Site         string         `json:"site"`
	Environments []string       `json:"environments"`
	Projects     []projectView  `json:"projects"`
	Shipments    []shipmentView `json:"shipments"`
	Inbox        []inboxView    `json:"inbox"`
	Peers        []peerView     `json:"peers"`
}

type projectView struct {
	Project  string              `json:"project"`
	Newest   string              `json:"newest"`
	Deployed map[string]cellView `json:"deployed"` // by environment, remote ones as site/environment
	Peers    []peerStateView     `json:"peers"`
}

type cellView struct {
	deploymentRowView
	RolledBack bool   `json:"rolledBack"`
	Running    string `json:"running,omitempty"` // version in effect, where the last deployment did not succeed
}

type peerStateView struct {
	Peer    string `json:"peer"`
	Version string `json:"version"`
	State   string `json:"state"`
	Serial  int64  `json:"serial"`
	Reason  string `json:"reason,omitempty"` // of a rejection
}

func (p *program) status(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	// A deployment that a crash left under way must not be shown as running.
	if err := s.EndInterrupted(ctx); err != nil {
		return fmt.Errorf("end interrupted deployments: %w", err)
	}
	st, err := s.Status(ctx)
	if err != nil {
		return fmt.Errorf("collect status: %w", err)
	}
	if only := c.String("project"); only != "" {
		keepProject(st, only)
		if len(st.Projects) == 0 && len(st.Inbox) == 0 {
			return failf(exitNotFound, "the project %q is not known here; see: davit status", printable(only))
		}
	}
	return p.result(viewStatus(st), func() { p.tellStatus(st) })
}

// keepProject leaves only what belongs to one project.
func keepProject(st *transfer.Status, project string) {
	st.Projects = slices.DeleteFunc(st.Projects, func(v transfer.ProjectStatus) bool { return v.Project != project })
	st.Inbox = slices.DeleteFunc(st.Inbox, func(it index.InboxItem) bool { return it.Project != project })
	st.Shipments = slices.DeleteFunc(st.Shipments, func(sh index.Shipment) bool {
		return !slices.ContainsFunc(sh.Releases, func(r manifest.ReleaseRef) bool { return r.Project == project })
	})
	used := map[string]bool{}
	for _, v := range st.Projects {
		for e := range v.Deployed {
			used[e] = true
		}
	}
	st.Environments = slices.DeleteFunc(st.Environments, func(e string) bool { return !used[e] })
}

func viewStatus(st *transfer.Status) statusView {
	v := statusView{Site: st.Site, Environments: nonNil(st.Environments), Projects: []projectView{}, Shipments: []shipmentView{},
		Inbox: []inboxView{}, Peers: []peerView{}}
	for _, pr := range st.Projects {
		view := projectView{Project: pr.Project, Newest: pr.Newest, Deployed: map[string]cellView{}, Peers: []peerStateView{}}
		for e, cell := range pr.Deployed {
			view.Deployed[e] = cellView{viewDeployment(cell.Deployment, st.Site), cell.RolledBack, cell.Running}
		}
		for _, ps := range pr.Peers {
			view.Peers = append(view.Peers, peerStateView(ps))
		}
		v.Projects = append(v.Projects, view)
	}
	for _, sh := range st.Shipments {
		v.Shipments = append(v.Shipments, viewShipment(sh))
	}
	for _, it := range st.Inbox {
		v.Inbox = append(v.Inbox, viewInbox(it))
	}
	for _, peer := range st.Peers {
		view := viewPeer(peer)
		view.Pending = st.Pending[peer.Name]
		t := st.Traffic[peer.Name]
		view.Traffic = &trafficView{t.Sent, t.SentSaved, t.Received, t.ReceivedSaved}
		v.Peers = append(v.Peers, view)
	}
	return v
}

func (p *program) tellStatus(st *transfer.Status) {
	if len(st.Projects)+len(st.Inbox) == 0 {
		p.say("Site %s has no releases yet. Make one with: davit release create PROJECT VERSION PATH…", st.Site)
	}
	if len(st.Projects) > 0 {
		p.table(grid(st))
	}
	if len(st.Inbox) > 0 {
		p.put("\nInbox, waiting for a decision:")
		rows := [][]string{inboxHead}
		for _, it := range st.Inbox {
			rows = append(rows, inboxRow(it))
		}
		p.table(rows)
	}
	p.tellShipments(st)
	if len(st.Peers) > 0 {
		p.put("")
		rows := [][]string{{"PEER", "LAST HEARD", "SENT", "RECEIVED", "WAITS TO BE SENT"}}
		for _, peer := range st.Peers {
			t := st.Traffic[peer.Name]
			rows = append(rows, []string{peer.Name, ago(peer.Heard), traffic(t.Sent, t.SentSaved), traffic(t.Received, t.ReceivedSaved), waits(st.Pending[peer.Name])})
		}
		p.table(rows)
	}
	for _, name := range slices.Sorted(maps.Keys(st.Pending)) {
		n := st.Pending[name]
		if n > 0 {
			p.say("%s for %s: davit export --results --to %s FOLDER", waitsFor(n), name, name)
		}
	}
}

// traffic says how much went, and how much more it would have been without
// deltas.
func traffic(bytes, saved int64) string {
	switch {
	case bytes == 0:
		return "nothing"
	case saved == 0:
		return size(bytes)
	}
	return fmt.Sprintf("%s, %s saved", size(bytes), size(saved))
}

func waits(n int) string {
	if n == 0 {
		return "nothing"
	}
	return count(n, "receipt or result", "receipts and results")
}

func waitsFor(n int) string {
	if n == 1 {
		return "1 receipt or result waits"
	}
	return fmt.Sprintf("%d receipts and results wait", n)
}

// grid is the table of projects and environments.
func grid(st *transfer.Status) [][]string {
	head := append([]string{"PROJECT", "NEWEST"}, st.Environments...)
	peers := map[string]bool{}
	for _, v := range st.Projects {
		for _, s := range v.Peers {
			peers[s.Peer] = true
		}
	}
	columns := slices.Sorted(maps.Keys(peers))
	for _, name := range columns {
		head = append(head, "→ "+name)
	}
	rows := [][]string{head}
	for _, v := range st.Projects {
		row := []string{v.Project, v.Newest}
		for _, e := range st.Environments {
			row = append(row, cellText(v.Deployed[e]))
		}
		for _, name := range columns {
			text := "-"
			for _, s := range v.Peers {
				if s.Peer == name {
					text = s.Version + " " + s.State
					if s.State == manifest.StateRejected {
						text = s.Version + " REJECTED"
					}
				}
			}
			row = append(row, text)
		}
		rows = append(rows, row)
	}
	return rows
}

func cellText(c transfer.Cell) string {
	switch {
	case c.ID == "":
		return "-"
	case c.Status == manifest.StatusSucceeded && c.RolledBack:
		return c.Version + " (rolled back)"
	case c.Status == manifest.StatusSucceeded:
		return c.Version
	}
	text := c.Version + " " + strings.ToUpper(c.Status)
	if c.Running != "" {
		text += ", " + c.Running + " runs"
	}
	return text
}

// oldShipment is how long an exported bundle may be without an answer before
// the status says so; sticks travel slowly.
const oldShipment = 7 * 24 * time.Hour

// tellShipments shows the open shipments and the newest of each peer.
func (p *program) tellShipments(st *transfer.Status) {
	newest := map[string]int64{}
	for _, sh := range st.Shipments {
		newest[sh.Peer] = max(newest[sh.Peer], sh.Serial)
	}
	rows := [][]string{shipmentHead}
	var old []index.Shipment
	for _, sh := range st.Shipments {
		open := sh.State == index.ShipmentSealed || sh.State == index.ShipmentExported
		// What carries receipts alone is never answered.
		if open && (len(sh.Releases) > 0 || onlyNewest(sh, newest)) || !open && sh.Serial == newest[sh.Peer] {
			rows = append(rows, shipmentRow(sh))
		}
		if sh.State == index.ShipmentExported && len(sh.Releases) > 0 && now().Sub(sh.Exported) > oldShipment {
			old = append(old, sh)
		}
	}
	if len(rows) == 1 {
		return
	}
	p.put("")
	p.table(rows)
	for _, sh := range old {
		p.say("Bundle %d for %s was exported %s and nobody has answered. If it is lost: davit shipment lost %s %d", sh.Serial, sh.Peer, ago(sh.Exported), sh.Peer, sh.Serial)
	}
}

func onlyNewest(sh index.Shipment, newest map[string]int64) bool { return sh.Serial == newest[sh.Peer] }

package index

import (
	"context"
	"database/sql"
	"time"

	"davit/manifest"
)

// StatusDeploying is the status of a deployment that has not ended; the others
// are manifest.StatusSucceeded and so on.
const StatusDeploying = "deploying"

// Deployment is one run of a release's process, here or at a peer.
type Deployment struct {
	ID          string
	Project     string
	Version     string
	Release     manifest.Digest
	Site        string // "" here, else the peer
	Environment string
	Actor       string
	Status      string
	Started     time.Time
	Ended       time.Time
	Message     string
	Result      manifest.Digest // zero until it has ended
}

// Here and Everywhere are values of DeploymentFilter.Site that no site can be
// called.
const (
	Everywhere = ""
	Here       = "."
)

// DeploymentFilter chooses deployments; what is empty chooses all.
type DeploymentFilter struct {
	Project     string
	Environment string
	Site        string // a peer, or Here
	Limit       int    // 0: no limit
}

const deploymentColumns = `SELECT id, project, version, release, site, environment, actor, status, started, ended, message, result FROM deployments`

func scanDeployment(r *sql.Rows, d *Deployment) error {
	return r.Scan(&d.ID, &d.Project, &d.Version, text{&d.Release}, &d.Site, &d.Environment, &d.Actor, &d.Status,
		moment{&d.Started}, moment{&d.Ended}, &d.Message, text{&d.Result})
}

// Deployments lists deployments, newest first. Those of this site stay in
// their order even when the clock was set back.
func (x *Index) Deployments(ctx context.Context, f DeploymentFilter) ([]Deployment, error) {
	if f.Limit <= 0 {
		f.Limit = -1
	}
	all, err := collect(ctx, x.read, scanDeployment, deploymentColumns+` WHERE (?1 = '' OR project = ?1) AND (?2 = '' OR environment = ?2)
		AND (?3 = '' OR site = iif(?3 = '.', '', ?3)) ORDER BY rank DESC, n DESC LIMIT ?4`, f.Project, f.Environment, f.Site, f.Limit)
	return all, x.fail(ctx, "list deployments", err)
}

// Deployment returns the deployment of this site with that id.
func (x *Index) Deployment(ctx context.Context, id string) (Deployment, error) {
	d, err := one(ctx, x.read, scanDeployment, deploymentColumns+" WHERE site = '' AND id = ?", id)
	return d, x.fail(ctx, "look up deployment "+id, err)
}

func (p *projection) deployStarted(f *manifest.DeployStarted) error {
	n, err := p.changed(`INSERT INTO deployments (site, id, project, version, release, environment, actor, status, started, rank)
		VALUES ('', ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, max(?8, coalesce((SELECT max(rank) FROM deployments WHERE site = ''), 0)))
		ON CONFLICT DO NOTHING`,
		f.ID, f.Project, f.Version, digestText(f.Release), f.Environment, f.Actor, StatusDeploying, f.Started.Unix())
	if err == nil && n == 0 {
		err = contradict("deployment %s has begun before", f.ID)
	}
	return err
}

func (p *projection) deployEnded(f *manifest.DeployEnded) error {
	n, err := p.changed("UPDATE deployments SET status = ?, ended = ?, message = ?, result = ?, closed = ? WHERE site = '' AND id = ? AND status = ?",
		f.Status, f.Ended.Unix(), f.Message, digestText(f.Result), p.sequence, f.ID, StatusDeploying)
	if err == nil && n == 0 {
		err = contradict("no deployment %s is under way", f.ID)
	}
	return err
}

// resultSettled takes in a peer's result. The same one may come again.
func (p *projection) resultSettled(f *manifest.ResultSettled) error {
	if err := p.heard(f.Peer); err != nil {
		return err
	}
	return p.exec(`INSERT INTO deployments (site, id, project, version, release, environment, actor, status, started, ended, message, result, rank, closed)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?9, ?13) ON CONFLICT DO NOTHING`,
		f.Peer, f.ID, f.Project, f.Version, digestText(f.Release), f.Environment, f.Actor, f.Status,
		f.Started.Unix(), f.Ended.Unix(), f.Message, digestText(f.Result), p.sequence)
}

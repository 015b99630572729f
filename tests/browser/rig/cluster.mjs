// An edge and an SFU node as programs of their own, which speak gRPC over TCP.

import { writeFileSync } from 'node:fs';
import { privatePath } from './private-dir.mjs';
import { socketUrl, startProgram } from './program.mjs';

/** Marks that are never reached: browsers share the machine, and what one refuses that has too much to do is tested elsewhere. */
export const neverForNodes = { refuse: 1.5, shed: 2, delay: '1h' };
export const neverForEdges = { cpu: 1, lag: '10s', memory: 1 };

/** Settings as a file; JSON is YAML. */
function settings(name, content) {
  const path = privatePath(`${name}.yaml`);
  writeFileSync(path, JSON.stringify(content));
  return path;
}

/** Starts an SFU node on loopback; `more` settings are added. `grpc` is where edges reach it. */
export async function startNode({ id = 'node-1', grpc = '127.0.0.1:0', ...more } = {}) {
  const path = settings(id, {
    id,
    grpc: { listen: grpc },
    admin_listen: '127.0.0.1:0',
    media: { ip: ['127.0.0.1'], first_port: 0, affinity: 'none' },
    overload: neverForNodes,
    ...more,
  });
  const program = await startProgram('sfu-node', ['--config', path]);
  const said = (name) => new RegExp(`${name}=(\\S+)`).exec(program.ready)[1];
  // Where operators look.
  const url = `http://${said('admin')}/`;
  return { ...program, id, grpc: said('grpc'), url, admin: url };
}

/**
 * Starts an edge in front of `nodes`, or, where `more` names a directory, of those it has, and waits until it has heard of one
 * of them.
 */
export async function startEdge(nodes, more = {}) {
  const path = settings(more.id ?? 'edge', {
    listen: '127.0.0.1:0',
    admin_listen: '127.0.0.1:0',
    overload: neverForEdges,
    ...(nodes.length > 0 && { nodes: nodes.map(({ id, grpc }) => ({ id, grpc: `http://${grpc}` })) }),
    ...more,
  });
  const program = await startProgram('edge-signal', ['--config', path]);
  const said = (name) => new RegExp(`${name}=(\\S+)`).exec(program.ready)[1];
  const url = `http://${said('clients')}/`;
  return { ...program, url, admin: `http://${said('admin')}/`, socketUrl: (uid, query) => socketUrl(url, uid, query) };
}

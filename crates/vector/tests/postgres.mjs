// A Postgres with the pgvector extension, in this process, for the tests. Its packages are in the folder that is its
// argument. It says its port, and ends with its input.
import { createRequire } from 'node:module';

const require = createRequire(`${process.argv[2]}/`);
const { PGlite } = require('@electric-sql/pglite');
const { vector } = require('@electric-sql/pglite-pgvector');
const { PGLiteSocketServer } = require('@electric-sql/pglite-socket');

const db = await PGlite.create({ extensions: { vector } });
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0, maxConnections: 20 });
server.addEventListener('listening', ({ detail }) => console.log(`port ${detail.port}`));
await server.start();
process.stdin.on('end', () => process.exit(0)).resume();

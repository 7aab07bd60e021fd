// Serves model.cds on a free port of this machine alone, from a database in memory, until its input ends.
const http = require('node:http')
const cds = require('@sap/cds')

cds.on('bootstrap', app => {
  app.listen = () => http.createServer(app).listen(0, '127.0.0.1')
})

cds.server({ from: 'model.cds', in_memory: true }).then(server => {
  const tell = () => console.log(`judge ready on http://127.0.0.1:${server.address().port}`)
  if (server.listening) tell()
  else server.once('listening', tell)
})

// Whoever started this holds the other end: when it dies, however, so does the server.
process.stdin.resume().on('end', () => process.exit(0))

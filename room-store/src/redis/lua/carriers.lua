return finish(call('HGETALL', CARRIERS))
